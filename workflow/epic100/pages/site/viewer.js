// The segment that was chosen: what it is, the lanes of its video, and the five best of each run.

epic.viewer = (() => {
  const { at, segments: s, runs, make, clock, percent, timeline, player, labels } = epic;
  const films = []; // of each video, what its timeline is made of
  let now = -1;

  const span = (i, fields) => ({ id: i, start: s.columns.start[i], stop: s.columns.stop[i], ...fields });
  const annotated = (video) => s.ofVideo[video].map((i) => span(i, { text: s.truth(i),
    tone: s.columns.reason[i] < 0 ? "truth" : "truth dropped", more: s.reason(i) ? `dropped: ${s.reason(i).text}` : s.columns.said[i] }));
  const guessed = (video, run) => s.ofVideo[video].filter(run.predicted).map((i) => span(i, { text: `${run.mark(i)} ${run.guessed(i)}`,
    tone: run.tone(i), more: `${percent(run.sure.action[i])} sure; truth: ${s.truth(i)}` }));

  // A stretch of the whole video's prediction; a click shows the segment that it is mostly over.
  function seen(video, [start, stop, verb, noun, p]) {
    const over = (i) => Math.min(stop, s.columns.stop[i]) - Math.max(start, s.columns.start[i]);
    const id = s.ofVideo[video].reduce((best, i) => (over(i) > (best < 0 ? 0 : over(best)) ? i : best), -1);
    const isTrue = id >= 0 && verb === s.columns.verb[id] && noun === s.columns.noun[id];
    return { id, start, stop, tone: "seen", text: `${isTrue ? "✓ " : ""}${s.action(verb, noun)}`, more: `${percent(p)} sure` };
  }
  function laneOf(video, run) {
    const found = run.timeline(video);
    const name = found ? "prediction over the whole video" : "prediction of each segment";
    return [epic.two ? `${run.letter}, ${run.name}: ${name}` : name, found ? found.map((row) => seen(video, row)) : guessed(video, run)];
  }
  // With two runs the annotation is between them.
  function lanes(video) {
    const [first, second] = runs.map((run) => laneOf(video, run));
    return [...(second ? [first] : []), ["annotation", annotated(video)], second ?? first];
  }
  const filmOf = (video) => ({ name: s.videos.id[video], seconds: s.videos.seconds[video], damaged: s.videos.damaged[video],
    why: s.videos.why[video], lanes: () => lanes(video) });

  function badges(i) {
    const { columns } = s;
    const badge = (text, tone = "") => make("span", { className: `badge ${tone}` }, text);
    const found = runs.map((run) => badge(
      `${epic.two ? `${run.letter} ` : ""}${run.mark(i)} ${run.predicted(i) ? `action ${run.word(i)}` : run.word(i)}`, run.tone(i)));
    found.push(badge(`${s.videos.id[columns.video[i]]} · ${clock(columns.start[i])} – ${clock(columns.stop[i])}`));
    if (s.data.splits.length > 1) found.push(badge(s.data.splits[columns.split[i]]));
    if (s.isTail(i)) found.push(badge("tail class"));
    if (s.isUnseen(i)) found.push(badge("unseen participant"));
    if (s.reason(i)) found.push(badge(`dropped: ${s.reason(i).text}`, "wrong"));
    if (player.canBeWhole(i)) found.push(make("a", { href: player.moment(i), target: "_blank", rel: "noopener" }, "in the whole video"));
    at("badges").replaceChildren(...found);
  }

  function group(title, list, isTruth, truth, p) {
    const part = epic.bars(title, list, isTruth);
    if (!list.some(isTruth)) part.append(make("p", { className: "soft small" }, `truth: ${truth}, ${percent(p)}`));
    return part;
  }

  function guesses(i, run) {
    const { columns } = s;
    const head = epic.two ? [make("h3", { className: "run" }, `${run.letter}: ${run.name}`)] : [];
    if (!run.predicted(i)) {
      return [...head, make("p", {}, "Truth: ", make("b", {}, s.truth(i)), ". ",
        make("span", { className: "soft" }, "The model made no prediction; the submission has the training prior."))];
    }
    const single = (task) => group(`${task}s`, run.best(i, task), (each) => each.id === columns[task][i],
      s.nameOf(task, columns[task][i]), run.truthShare(i, task));
    return [...head,
      group("actions", run.bestActions(i), (each) => each.verb === columns.verb[i] && each.noun === columns.noun[i],
        s.truth(i), run.truthShare(i, "verb") * run.truthShare(i, "noun")),
      single("verb"), single("noun")];
  }

  function legend(i) {
    const video = s.columns.video[i];
    const parts = ["Click a block to play it."];
    if (s.videos.damaged[video].length) parts.push("Hatched: damaged.");
    if (s.ofVideo[video].some((each) => s.columns.reason[each] >= 0)) parts.push("Dashed: dropped.");
    if (runs.some((run) => !run.timeline(video))) {
      const [name] = runs.filter((run) => !run.timeline(video)).map((run) => run.name);
      const target = name === "default" ? "results" : `run=${name} results/runs/${name}`;
      parts.push(`For the actions that the model finds by itself: ${s.data.call} ${target}/timeline/${s.videos.id[video]}.tsv`);
    }
    return parts.join(" ");
  }

  function show(i, play = true) {
    now = i;
    at("what").replaceChildren(make("b", {}, s.columns.said[i] || s.truth(i)), " ",
      make("span", { className: "soft" }, s.columns.id[i]));
    badges(i);
    at("guesses").replaceChildren(...runs.map((run) => make("div", { className: "guesses" }, ...guesses(i, run))));
    labels.show(i);
    const video = s.columns.video[i];
    films[video] ??= filmOf(video);
    timeline.show(films[video], i, s.columns.start[i], s.columns.stop[i]);
    player.load(i, play);
    const own = s.ofVideo[video];
    at("before").disabled = own[0] === i;
    at("after").disabled = own[own.length - 1] === i;
    at("legend").textContent = legend(i);
    epic.page.moved(i);
  }

  function step(by, play) {
    const own = s.ofVideo[s.columns.video[now]];
    const next = own[own.indexOf(now) + by];
    if (next !== undefined) show(next, play);
  }

  at("before").addEventListener("click", () => step(-1, true));
  at("after").addEventListener("click", () => step(1, true));

  return { show, step, current: () => now };
})();
