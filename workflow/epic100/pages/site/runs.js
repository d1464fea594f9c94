// What each run guesses. With two runs, A is the first; `epic.run()` is the one that was chosen.

epic.runs = epic.segments.data.runs.map((guesses, place) => {
  const s = epic.segments;
  const { best: widths, unit } = s.data;
  const row = new Int32Array(s.count).fill(-1); // of its guess
  guesses.segment.forEach((segment, at) => { row[segment] = at; });
  const right = { verb: new Uint8Array(s.count), noun: new Uint8Array(s.count), action: new Uint8Array(s.count) };
  const sure = { verb: new Float32Array(s.count), noun: new Float32Array(s.count), action: new Float32Array(s.count) };
  const guess = (i, task) => (row[i] < 0 ? -1 : guesses[task][row[i] * widths[task]]);
  for (const i of guesses.segment) {
    for (const task of ["verb", "noun"]) {
      right[task][i] = guess(i, task) === s.columns[task][i];
      sure[task][i] = guesses[`${task}_p`][row[i] * widths[task]] / unit;
    }
    right.action[i] = guesses.right[row[i]];
    sure.action[i] = sure.verb[i] * sure.noun[i];
  }

  // The five best of a verb or a noun: [{id, name, p}], most probable first.
  function best(i, task) {
    return Array.from({ length: row[i] < 0 ? 0 : widths[task] }, (_, rank) => {
      const at = row[i] * widths[task] + rank;
      const id = guesses[task][at];
      return { id, name: s.nameOf(task, id), p: guesses[`${task}_p`][at] / unit };
    });
  }

  // The five best actions: products of a verb's and a noun's probability. All five are products of
  // the five best verbs and nouns.
  function bestActions(i) {
    const pairs = best(i, "verb").flatMap((verb) => best(i, "noun").map((noun) => (
      { verb: verb.id, noun: noun.id, name: `${verb.name} ${noun.name}`, p: verb.p * noun.p })));
    return pairs.sort((a, b) => b.p - a.p).slice(0, 5);
  }

  const predicted = (i) => row[i] >= 0;
  const tone = (i) => (!predicted(i) ? "soft" : right.action[i] ? "right" : "wrong");
  return {
    name: guesses.name || "default", letter: "AB"[place], official: guesses.official, right, sure, guess, best, bestActions, predicted, tone,
    segments: guesses.segment, // those with a prediction
    timeline: (video) => guesses.timelines[video],
    isNear: (i) => guesses.near[row[i]] === 1,
    truthShare: (i, task) => guesses[`${task}_truth_p`][row[i]] / unit,
    guessed: (i) => (predicted(i) ? s.action(guess(i, "verb"), guess(i, "noun")) : ""),
    mark: (i) => ({ soft: "–", right: "✓", wrong: "✗" })[tone(i)],
    word: (i) => ({ soft: "no prediction", right: "right", wrong: "wrong" })[tone(i)],
  };
});
epic.two = epic.runs.length > 1;
epic.run = () => epic.runs[Number(epic.at("filter").elements.run.value) || 0];
