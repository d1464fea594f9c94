// Which segments the fields of the form show.

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

  function ofText(text) {
    const asked = text.toLowerCase().split(/\s+/).filter(Boolean);
    return (i) => asked.every((word) => words[i].includes(word));
  }

  // What each field asks of a segment, by the field's value; cheap ones first.
  const fields = {
    split: (value) => (i) => columns.split[i] === Number(value),
    verb: (value) => (i) => columns.verb[i] === Number(value),
    noun: (value) => (i) => columns.noun[i] === Number(value),
    participant: (value) => (i) => s.participant(i) === value,
    tail: () => s.isTail,
    unseen: () => s.isUnseen,
    starred: () => epic.labels.isMarked,
    reason: (value) => (i) => ({ kept: columns.reason[i] < 0, dropped: columns.reason[i] >= 0 })[value] ?? s.reason(i)?.kind === value,
    cell: ofCell,
    sure: ofSure,
    result: (value, run) => (i) => (value === "none" ? !run.predicted(i) : runs.every((each) => each.predicted(i)) && results[value](i, run)),
    text: ofText,
  };

  // 0 or 1 for each segment.
  function select(filter) {
    const run = runs[Number(filter.run) || 0];
    const tests = Object.keys(fields).filter((name) => filter[name]).map((name) => fields[name](filter[name], run));
    return Uint8Array.from(columns.id, (_, i) => tests.every((test) => test(i)));
  }

  return { select };
})();
