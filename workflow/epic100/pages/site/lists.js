// The table of segments and the table of videos.

epic.lists = (() => {
  const { at, segments: s, runs, make, clock, percent, form, makeGrid, labels } = epic;
  const letter = (text, run) => (epic.two ? `${text} ${run.letter}` : text);

  const marked = (run) => ({
    key: `mark${run.letter}`, title: epic.two ? run.letter : "✓", width: "2.4rem", down: true,
    value: (i) => run.mark(i),
    cell: (i) => make("span", { className: run.tone(i), role: "img", ariaLabel: run.word(i), title: run.word(i) }, run.mark(i)),
  });
  const guessed = (run, place) => ({
    key: `guess${run.letter}`, title: letter("guess", run), width: "minmax(5rem, 3fr)", narrow: false, from: 430 + 120 * place,
    value: run.guessed,
    cell: (i) => (run.predicted(i) ? make("span", { className: run.tone(i) }, run.guessed(i))
      : make("span", { className: "soft" }, s.reason(i) ? `dropped: ${s.reason(i).kind}` : "–")),
  });
  // Truth, guesses and id below one another, for a telephone.
  const stacked = (i) => make("div", { className: "stacked", title: s.truth(i) }, make("span", {}, s.truth(i)),
    ...runs.map((run) => make("span", { className: run.tone(i) }, `${epic.two ? run.letter : "→"} ${run.predicted(i) ? run.guessed(i) : run.word(i)}`)),
    make("span", { className: "soft" }, `${labels.isMarked(i) ? "★ " : ""}${s.columns.id[i]}`));
  const seconds = (i) => s.columns.stop[i] - s.columns.start[i];

  // `show(i)` shows the segment.
  const makeSegments = (show) => makeGrid(at("segment-table"), {
    label: "Segments", field: form.fields.sort, empty: "No segment: loosen the filters.", moved: show, chosen: show,
    lines: 2 + runs.length,
    columns: [
      ...runs.map(marked),
      { key: "truth", title: "truth and guess", width: "minmax(0, 1fr)", narrow: true, value: s.truth, cell: stacked },
      { key: "id", title: "segment", narrow: false, width: "7.4rem", value: (i) => s.columns.id[i], cell: (i) => `${labels.isMarked(i) ? "★ " : ""}${s.columns.id[i]}` },
      { key: "truth", title: "truth", narrow: false, width: "minmax(5rem, 3fr)", value: s.truth },
      ...runs.map(guessed),
      { key: "sure", title: "sure", width: "5rem", right: true, down: true, from: epic.two ? 480 : 0,
        value: (i) => (epic.run().predicted(i) ? epic.run().sure.action[i] : -1),
        cell: (i) => (epic.run().predicted(i) ? percent(epic.run().sure.action[i]) : "") },
      { key: "s", title: "s", width: "3.2rem", right: true, from: 620, value: seconds, cell: (i) => seconds(i).toFixed(1) },
    ],
  });

  const damaged = (video) => s.videos.damaged[video].reduce((sum, [start, stop]) => sum + stop - start, 0);
  function share(run, video) {
    const own = s.ofVideo[video].filter(run.predicted);
    return own.length ? own.filter((i) => run.right.action[i]).length / own.length : -1;
  }
  const states = (video) => ({ ok: "", damaged: `${damaged(video).toFixed(1)} s` })[s.videos.state[video]] ?? s.videos.state[video];

  const makeVideos = (show) => makeGrid(at("video-table"), {
    label: "Videos", field: form.fields.lines, empty: "No video.", chosen: show,
    columns: [
      { key: "video", title: "video", width: "minmax(5rem, 2fr)", value: (video) => s.videos.id[video] },
      { key: "length", title: "length", width: "5rem", right: true, from: 240 + 100 * runs.length, value: (video) => s.videos.seconds[video], cell: (video) => clock(s.videos.seconds[video]) },
      { key: "segments", title: "segments", width: "6.2rem", right: true, down: true, from: 400 + 80 * runs.length, value: (video) => s.ofVideo[video].length },
      ...runs.map((run) => ({ key: `right${run.letter}`, title: letter("right", run), width: "5rem", right: true, down: true,
        value: (video) => share(run, video), cell: (video) => (share(run, video) < 0 ? "–" : percent(share(run, video))) })),
      { key: "damage", title: "damage", width: "minmax(5rem, 2fr)", down: true, value: damaged,
        cell: (video) => make("span", { title: s.videos.why[video] }, states(video)) },
    ],
  });

  return { makeSegments, makeVideos };
})();
