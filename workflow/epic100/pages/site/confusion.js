// The confusion matrix of the segments that the filters show.

epic.confusion = (() => {
  const { at, segments: s, make, statistics, form } = epic;
  const element = at("matrix");
  const cellOf = (task, truth, guess) => `${task}:${truth ?? ""}:${guess ?? ""}`;
  const choose = (cell) => form.set({ cell, tab: "segments" });

  function cell(task, truth, guess, number, total, label) {
    const title = `${s.nameOf(task, truth)} taken for ${label}: ${number} of ${total}`;
    const share = Math.round((60 * number) / total); // numbers stay legible up to 60
    return make("td", { className: truth === guess ? "diagonal" : "" },
      make("button", { type: "button", tabIndex: -1, title, ariaLabel: title, disabled: !number, style: `--share: ${share}%`,
        onclick: () => choose(cellOf(task, truth, guess)) }, number ? String(number) : ""));
  }

  const head = (task, id, scope, cell) => make("th", { scope },
    make("button", { type: "button", tabIndex: -1, onclick: () => choose(cell) }, s.nameOf(task, id)));

  function draw(shown) {
    const task = form.fields.task.value;
    const count = Number(form.fields.count.value);
    const run = epic.run();
    const truths = s.columns[task];
    const totals = statistics.tally(shown, run, task, (i) => truths[i]);
    const counts = statistics.tally(shown, run, task, (i) => cellOf(task, truths[i], run.guess(i, task)));
    const frequent = [...totals].sort((a, b) => b[1].number - a[1].number).slice(0, count).map(([id]) => id);
    if (!frequent.length) {
      element.replaceChildren(make("p", { className: "soft" }, "No segment with a prediction: loosen the filters."));
      return;
    }
    const top = make("tr", {}, make("td", { className: "corner" }, "truth ↓ guess →"),
      ...frequent.map((id) => head(task, id, "col", cellOf(task, null, id))),
      make("th", { scope: "col", className: "others" }, make("span", {}, "others")));
    const rows = frequent.map((truth) => {
      const total = totals.get(truth).number;
      const numbers = frequent.map((guess) => counts.get(cellOf(task, truth, guess))?.number ?? 0);
      const rest = numbers.reduce((left, number) => left - number, total);
      return make("tr", {}, head(task, truth, "row", cellOf(task, truth, null)),
        ...frequent.map((guess, place) => cell(task, truth, guess, numbers[place], total, s.nameOf(task, guess))),
        cell(task, truth, `!${frequent}`, rest, total, "others"));
    });
    const table = make("table", { className: count > 15 ? "dense" : "" }, make("thead", {}, top), make("tbody", {}, ...rows));
    element.replaceChildren(table);
    (table.querySelector("td button:enabled") || table.querySelector("button")).tabIndex = 0;
  }

  // A cell as words, for the filters.
  function words(text) {
    const [task, truth, guess] = text.split(":");
    const name = (id) => (id === "" ? "any" : id.startsWith("!") ? "others" : s.nameOf(task, Number(id)));
    return `${task}: ${name(truth)} taken for ${name(guess)}`;
  }

  epic.rove(element, "button:enabled");

  return { draw, words };
})();
