// Which segments the fields of the form show.
"use strict";

epic.filters = (() => {
  const { segments: s, runs } = epic;
  const { columns } = s;
  const words = columns.id.map((id, i) => `${id} ${columns.said[i]}`.toLowerCase());

  const results = {
    right: (i, { right }) => right.action[i],
    wrong: (i, { right }) => !right.action[i],
    verb: (i, { right }) => !right.verb[i],
    noun: (i, { right }) => !right.noun[i],
    both: (i, { right }) => !right.verb[i] && !right.noun[i],
    near: (i, run) => !run.right.action[i] && run.isNear(i),
    far: (i, run) => !run.isNear(i),
    first: (i) => runs[0].right.action[i] && !runs[1].right.action[i],
    second: (i) => runs[1].right.action[i] && !runs[0].right.action[i],
    differ: (i) => ["verb", "noun"].some((task) => runs[0].guess(i, task) !== runs[1].guess(i, task)),
  };

  // A cell of the matrix as text: task:truth:guess, each an id or nothing; a guess `!1,2` is none
  // of these.
  function ofCell(text, run) {
    const [task, truth, guess] = text.split(":");
    const ids = new Set(guess.replace("!", "").split(",").map(Number));
    return (i) => run.predicted(i) && (!truth || columns[task][i] === Number(truth))
      && (!guess || ids.has(run.guess(i, task)) !== guess.startsWith("!"));
  }

  // How sure a run is, as text: task:from:to in percent; 100 is included.
  function ofSure(text, run) {
    const [task, from, to] = text.split(":");
    const most = to === "100" ? Infinity : Number(to) / 100;
    return (i) => run.predicted(i) && run.sure[task][i] >= Number(from) / 100 && run.sure[task][i] < most;
  }

  // The conditions of a filter, cheap ones first.
  function conditions(filter) {
    const tests = [];
    const run = runs[Number(filter.run) || 0];
    for (const key of ["split", "verb", "noun"]) {
      if (filter[key]) tests.push((i) => columns[key][i] === Number(filter[key]));
    }
    if (filter.participant) tests.push((i) => s.participant(i) === filter.participant);
    if (filter.tail) tests.push(s.isTail);
    if (filter.unseen) tests.push(s.isUnseen);
    if (filter.starred) tests.push((i) => epic.labels.isMarked(i));
    if (filter.reason === "kept") tests.push((i) => columns.reason[i] < 0);
    else if (filter.reason === "dropped") tests.push((i) => columns.reason[i] >= 0);
    else if (filter.reason) tests.push((i) => s.reason(i)?.kind === filter.reason);
    if (filter.cell) tests.push(ofCell(filter.cell, run));
    if (filter.sure) tests.push(ofSure(filter.sure, run));
    if (filter.result === "none") tests.push((i) => !run.predicted(i));
    else if (filter.result) {
      tests.push((i) => runs.every((each) => each.predicted(i)) && results[filter.result](i, run));
    }
    const asked = (filter.text || "").toLowerCase().split(/\s+/).filter(Boolean);
    if (asked.length) tests.push((i) => asked.every((word) => words[i].includes(word)));
    return tests;
  }

  // 0 or 1 for each segment.
  function select(filter) {
    const tests = conditions(filter);
    const shown = new Uint8Array(s.count);
    for (let i = 0; i < s.count; i += 1) shown[i] = tests.every((test) => test(i)) ? 1 : 0;
    return shown;
  }

  return { select };
})();
