// The table of verbs, nouns, actions or participants: how many, how often right, taken for what.

epic.classes = (() => {
  const { at, segments: s, runs, form, makeGrid, statistics } = epic;
  const { columns } = s;

  // What a row is of: its key, its name, the task that is right or wrong, and what a choice filters.
  const GROUPS = {
    verb: { of: (i) => columns.verb[i], name: (i) => s.nameOf("verb", columns.verb[i]), task: "verb", filter: (i) => ({ verb: String(columns.verb[i]) }) },
    noun: { of: (i) => columns.noun[i], name: (i) => s.nameOf("noun", columns.noun[i]), task: "noun", filter: (i) => ({ noun: String(columns.noun[i]) }) },
    action: { of: (i) => 1e4 * columns.verb[i] + columns.noun[i], name: s.truth, task: "action",
      filter: (i) => ({ verb: String(columns.verb[i]), noun: String(columns.noun[i]) }) },
    participant: { of: s.participant, name: s.participant, task: "action", filter: (i) => ({ participant: s.participant(i) }) },
  };

  // What was guessed in place of the truth.
  function mistake(i, run, kind) {
    const { task } = GROUPS[kind];
    const guess = task === "action" ? run.guessed(i) : s.nameOf(task, run.guess(i, task));
    return kind === "participant" ? `${s.truth(i)} → ${guess}` : guess;
  }

  function rowsOf(shown, kind) {
    const { of, name, task, filter } = GROUPS[kind];
    const rows = new Map();
    for (let i = 0; i < s.count; i += 1) {
      if (!shown[i] || !runs.every((run) => run.predicted(i))) continue;
      const key = of(i);
      if (!rows.has(key)) rows.set(key, { name: name(i), filter: filter(i), number: 0, right: runs.map(() => 0), taken: new Map() });
      const row = rows.get(key);
      row.number += 1;
      runs.forEach((run, place) => { row.right[place] += run.right[task][i]; });
      if (epic.run().right[task][i]) continue;
      const other = mistake(i, epic.run(), kind);
      row.taken.set(other, (row.taken.get(other) || 0) + 1);
    }
    for (const row of rows.values()) {
      row.worst = [...row.taken].reduce((best, each) => (each[1] > best[1] ? each : best), ["", 0]);
    }
    return [...rows.values()].sort((a, b) => b.number - a.number);
  }

  const interval = (row, place) => {
    const [low, high] = statistics.wilson(row.right[place], row.number);
    return `${(100 * row.right[place] / row.number).toFixed(1)} (${Math.round(100 * low)}–${Math.round(100 * high)})`;
  };
  const change = (row) => (row.right[1] - row.right[0]) / row.number;
  const grid = makeGrid(at("class-table"), {
    label: "Classes", field: form.fields.order, empty: "No segment with a prediction: loosen the filters.",
    chosen: (row) => form.set({ ...row.filter, tab: "segments" }),
    columns: [
      { key: "name", title: "name", width: "minmax(6rem, 2fr)", value: (row) => row.name },
      { key: "number", title: "n", width: "3.4rem", right: true, down: true, value: (row) => row.number },
      ...runs.map((run, place) => ({ key: `right${run.letter}`, title: epic.two ? `right ${run.letter}, %` : "right, %", width: "7.6rem", right: true, down: true,
        from: 430 * place, value: (row) => row.right[place] / row.number, cell: (row) => interval(row, place) })),
      ...(epic.two ? [{ key: "change", title: "B − A", width: "4.2rem", right: true, down: true, value: change,
        cell: (row) => epic.points(change(row)) }] : []),
      { key: "mistake", title: "mistaken for", width: "minmax(7rem, 3fr)", down: true, from: epic.two ? 590 : 460, value: (row) => row.worst[1],
        cell: (row) => (row.worst[1] ? `${row.worst[0]} (${row.worst[1]})` : "") },
    ],
  });

  return {
    draw: (shown) => grid.show(rowsOf(shown, form.fields.kind.value), () => true),
  };
})();
