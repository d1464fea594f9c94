// The data of the page as the views need it, and the filters over it. data.js has columns; a
// segment is a number, its place in them.
"use strict";
const epic = {};

epic.segments = (() => {
  const data = window.epicData;
  const { segments: columns, guesses, videos } = data;
  const count = columns.id.length;
  const row = new Int32Array(count).fill(-1); // of its guess
  guesses.segment.forEach((segment, place) => { row[segment] = place; });
  const withClip = new Set(data.clips);
  const tail = { verb: new Set(data.tail_verbs), noun: new Set(data.tail_nouns) };
  const unseen = new Set(data.unseen);
  const nameOf = (task, id) => (id < 0 ? "unknown" : data[`${task}s`][id]);
  const words = columns.id.map((id, i) => `${id} ${columns.said[i]}`.toLowerCase());

  // The five best of a verb or a noun: [{id, name, p}], most probable first.
  function best(i, task) {
    const width = data.best[task];
    if (row[i] < 0) return [];
    return Array.from({ length: width }, (_, rank) => {
      const at = row[i] * width + rank;
      const id = guesses[task][at];
      return { id, name: nameOf(task, id), p: guesses[`${task}_p`][at] / data.unit };
    });
  }

  // The five best actions: products of a verb's and a noun's probability. All five are products of
  // the five best verbs and nouns.
  function bestActions(i) {
    const pairs = [];
    for (const verb of best(i, "verb")) {
      for (const noun of best(i, "noun")) {
        pairs.push({ verb: verb.id, noun: noun.id, name: `${verb.name} ${noun.name}`, p: verb.p * noun.p });
      }
    }
    return pairs.sort((a, b) => b.p - a.p).slice(0, 5);
  }

  const guess = (i, task) => (row[i] < 0 ? -1 : guesses[task][row[i] * data.best[task]]);
  const truthShare = (i, task) => guesses[`${task}_truth_p`][row[i]] / data.unit;
  const isRight = (i, task) => guess(i, task) === columns[task][i];
  const bothRight = (i) => isRight(i, "verb") && isRight(i, "noun");
  const isTail = (i) => tail.verb.has(columns.verb[i]) || tail.noun.has(columns.noun[i]);
  const participant = (i) => videos.participant[columns.video[i]];
  const isUnseen = (i) => unseen.has(participant(i));
  const reason = (i) => data.reasons[columns.reason[i]];

  // Whether the true action is among the five best: at most four products are larger.
  function inTopActions(i) {
    const rank = (task) => {
      const width = data.best[task];
      return guesses[task].slice(row[i] * width, (row[i] + 1) * width).indexOf(columns[task][i]);
    };
    const [verb, noun] = [rank("verb"), rank("noun")];
    if (verb < 0 || noun < 0) return false;
    const share = (task, place) => guesses[`${task}_p`][row[i] * data.best[task] + place];
    const own = share("verb", verb) * share("noun", noun);
    let larger = 0;
    for (let a = 0; a < data.best.verb; a += 1) {
      for (let b = 0; b < data.best.noun; b += 1) larger += share("verb", a) * share("noun", b) > own;
    }
    return larger < 5;
  }

  const results = {
    right: bothRight,
    wrong: (i) => !bothRight(i),
    verb: (i) => !isRight(i, "verb"),
    noun: (i) => !isRight(i, "noun"),
    both: (i) => !isRight(i, "verb") && !isRight(i, "noun"),
    near: (i) => !bothRight(i) && inTopActions(i),
    far: (i) => !inTopActions(i),
  };

  // The conditions of a filter, cheap ones first. `mix` is a cell of the matrix: {task, truth,
  // guess}, each an id or null; guess may be a Set of ids that it is none of.
  function conditions(filter, mix) {
    const tests = [];
    const number = (text) => (text === "" || text == null ? null : Number(text));
    const same = (wanted, of) => { if (wanted !== null) tests.push((i) => of(i) === wanted); };
    same(number(filter.split), (i) => columns.split[i]);
    same(filter.participant || null, participant);
    same(number(filter.verb), (i) => columns.verb[i]);
    same(number(filter.noun), (i) => columns.noun[i]);
    if (filter.tail) tests.push(isTail);
    if (filter.unseen) tests.push(isUnseen);
    if (filter.reason === "kept") tests.push((i) => columns.reason[i] < 0);
    else if (filter.reason === "dropped") tests.push((i) => columns.reason[i] >= 0);
    else if (filter.reason) tests.push((i) => reason(i)?.kind === filter.reason);
    if (mix) {
      const { task } = mix;
      tests.push((i) => row[i] >= 0);
      if (mix.truth !== null) same(mix.truth, (i) => columns[task][i]);
      if (mix.guess instanceof Set) tests.push((i) => !mix.guess.has(guess(i, task)));
      else if (mix.guess !== null) same(mix.guess, (i) => guess(i, task));
    }
    const asked = (filter.text || "").toLowerCase().split(/\s+/).filter(Boolean);
    if (asked.length) tests.push((i) => asked.every((word) => words[i].includes(word)));
    if (filter.result === "none") tests.push((i) => row[i] < 0);
    else if (filter.result) {
      tests.push((i) => row[i] >= 0);
      tests.push(results[filter.result]);
    }
    return tests;
  }

  // Which segments a filter shows: 0 or 1 for each.
  function select(filter, mix) {
    const tests = conditions(filter, mix);
    const shown = new Uint8Array(count);
    for (let i = 0; i < count; i += 1) shown[i] = tests.every((test) => test(i)) ? 1 : 0;
    return shown;
  }

  // Accuracies over those shown that have a prediction.
  function accuracies(shown) {
    const sums = { shown: 0, predicted: 0, verb: 0, noun: 0, action: 0 };
    for (let i = 0; i < count; i += 1) {
      if (!shown[i]) continue;
      sums.shown += 1;
      if (row[i] < 0) continue;
      sums.predicted += 1;
      sums.verb += isRight(i, "verb");
      sums.noun += isRight(i, "noun");
      sums.action += bothRight(i);
    }
    return sums;
  }

  const ofVideo = videos.id.map(() => []);
  columns.video.forEach((video, i) => ofVideo[video].push(i));
  ofVideo.forEach((list) => list.sort((a, b) => columns.start[a] - columns.start[b]));
  const byId = new Map(columns.id.map((id, i) => [id, i]));

  return {
    data, count, columns, videos, nameOf, best, bestActions, guess, truthShare, isRight, bothRight, isTail,
    isUnseen, participant, reason, select, accuracies, ofVideo, byId,
    predicted: (i) => row[i] >= 0,
    hasClip: (i) => withClip.has(i),
    clip: (i) => `clips/${participant(i)}/${columns.id[i]}.mp4`,
    truth: (i) => (columns.verb[i] < 0 ? "no label" : `${nameOf("verb", columns.verb[i])} ${nameOf("noun", columns.noun[i])}`),
    guessed: (i) => `${nameOf("verb", guess(i, "verb"))} ${nameOf("noun", guess(i, "noun"))}`,
    certainty: (i) => (row[i] < 0 ? -1 : best(i, "verb")[0].p * best(i, "noun")[0].p),
    mark: (i) => (row[i] < 0 ? "–" : bothRight(i) ? "✓" : "✗"),
    tone: (i) => (row[i] < 0 ? "soft" : bothRight(i) ? "right" : "wrong"),
  };
})();

// A small element: make("b", {className: "x"}, "text", another).
epic.make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};
epic.percent = (share) => `${(100 * share).toFixed(1)} %`;
epic.clock = (seconds) => {
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${(seconds - 60 * minutes).toFixed(1).padStart(4, "0")}`;
};
epic.thousands = (number) => number.toLocaleString("en");
