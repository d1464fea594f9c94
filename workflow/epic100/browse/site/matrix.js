// The confusion matrix of the segments that the filters show.
"use strict";

epic.matrix = (() => {
  const { at, segments: s, make, form } = epic;
  const element = at("matrix");
  const cellOf = (task, truth, guess) => `${task}:${truth ?? ""}:${guess ?? ""}`;
  const choose = (cell) => form.set({ cell, tab: "segments" });

  // counts: Map of truth -> Map of guess -> segments; totals of each truth.
  function countAll(shown, task) {
    const run = epic.run();
    const counts = new Map();
    const totals = new Map();
    for (let i = 0; i < s.count; i += 1) {
      if (!shown[i] || !run.predicted(i)) continue;
      const truth = s.columns[task][i];
      const guess = run.guess(i, task);
      if (!counts.has(truth)) counts.set(truth, new Map());
      const row = counts.get(truth);
      row.set(guess, (row.get(guess) || 0) + 1);
      totals.set(truth, (totals.get(truth) || 0) + 1);
    }
    return { counts, totals };
  }

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
    const { counts, totals } = countAll(shown, task);
    const frequent = [...totals].sort((a, b) => b[1] - a[1]).slice(0, count).map(([id]) => id);
    const others = `!${frequent}`;
    element.replaceChildren();
    if (frequent.length) {
      const top = make("tr", {}, make("td", { className: "corner" }, "truth ↓ guess →"));
      for (const id of frequent) top.append(head(task, id, "col", cellOf(task, null, id)));
      top.append(make("th", { scope: "col", className: "others" }, make("span", {}, "others")));
      const body = make("tbody");
      for (const truth of frequent) {
        const row = make("tr", {}, head(task, truth, "row", cellOf(task, truth, null)));
        const own = counts.get(truth);
        let rest = totals.get(truth);
        for (const guess of frequent) {
          const number = own.get(guess) || 0;
          rest -= number;
          row.append(cell(task, truth, guess, number, totals.get(truth), s.nameOf(task, guess)));
        }
        row.append(cell(task, truth, others, rest, totals.get(truth), "others"));
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
