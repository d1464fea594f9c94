// The confusion matrix of the segments that the filters show.
"use strict";

epic.matrix = (() => {
  const { at, segments: s, make, statistics, form } = epic;
  const element = at("matrix");
  const cellOf = (task, truth, guess) => `${task}:${truth ?? ""}:${guess ?? ""}`;
  const choose = (cell) => form.set({ cell, tab: "segments" });

  function cell(task, truth, guess, number, total, label) {
    const share = number / total;
    const button = make("button", { type: "button", tabIndex: -1 }, number ? String(number) : "");
    button.title = `${s.nameOf(task, truth)} taken for ${label}: ${number} of ${total}`;
    button.setAttribute("aria-label", button.title);
    button.disabled = !number;
    button.style.setProperty("--share", `${Math.round(60 * share)}%`); // numbers stay legible up to 60
    button.addEventListener("click", () => choose(cellOf(task, truth, guess)));
    return make("td", { className: truth === guess ? "diagonal" : "" }, button);
  }

  function head(task, id, scope, cell) {
    const button = make("button", { type: "button", tabIndex: -1 }, s.nameOf(task, id));
    button.addEventListener("click", () => choose(cell));
    return make("th", { scope }, button);
  }

  function draw(shown) {
    const task = form.fields.task.value;
    const count = Number(form.fields.count.value);
    const run = epic.run();
    const truths = s.columns[task];
    const totals = statistics.tally(shown, run, task, (i) => truths[i]);
    const counts = statistics.tally(shown, run, task, (i) => cellOf(task, truths[i], run.guess(i, task)));
    const frequent = [...totals].sort((a, b) => b[1].number - a[1].number).slice(0, count).map(([id]) => id);
    const others = `!${frequent}`;
    element.replaceChildren();
    if (frequent.length) {
      const top = make("tr", {}, make("td", { className: "corner" }, "truth ↓ guess →"));
      for (const id of frequent) top.append(head(task, id, "col", cellOf(task, null, id)));
      top.append(make("th", { scope: "col", className: "others" }, make("span", {}, "others")));
      const body = make("tbody");
      for (const truth of frequent) {
        const row = make("tr", {}, head(task, truth, "row", cellOf(task, truth, null)));
        const total = totals.get(truth).number;
        let rest = total;
        for (const guess of frequent) {
          const { number } = counts.get(cellOf(task, truth, guess)) ?? statistics.NONE;
          rest -= number;
          row.append(cell(task, truth, guess, number, total, s.nameOf(task, guess)));
        }
        row.append(cell(task, truth, others, rest, total, "others"));
        body.append(row);
      }
      const table = make("table", { className: count > 15 ? "dense" : "" }, make("thead", {}, top), body);
      element.append(table);
      (table.querySelector("td button:enabled") || table.querySelector("button")).tabIndex = 0;
    } else {
      element.append(make("p", { className: "soft" }, "No segment with a prediction: loosen the filters."));
    }
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
