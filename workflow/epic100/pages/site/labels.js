// Stars and notes on segments, kept in the browser, and lists to take away.

epic.labels = (() => {
  const { at, segments: s, runs, store } = epic;
  const KEY = "epic100 labels"; // of all pages: a narration_id is the same segment in each
  const marks = store.get(KEY, {}); // by narration_id: {star, note}
  let now = -1;

  const own = (i) => marks[s.columns.id[i]] ?? {};
  const isMarked = (i) => Boolean(own(i).star || own(i).note);

  function show(i) {
    now = i;
    at("star").ariaPressed = String(Boolean(own(i).star));
    at("star").textContent = own(i).star ? "★ starred" : "☆ star";
    if (at("note") !== document.activeElement) at("note").value = own(i).note ?? "";
  }
  function change(values) {
    marks[s.columns.id[now]] = { ...own(now), ...values };
    if (!isMarked(now)) delete marks[s.columns.id[now]];
    at("unkept").hidden = store.set(KEY, marks);
    show(now);
    epic.page.redraw();
  }
  at("star").addEventListener("click", () => change({ star: !own(now).star }));
  at("note").addEventListener("input", () => change({ note: at("note").value.trim() }));
  at("note").addEventListener("change", () => show(now));

  // A cell of a table: on one line, and nothing that a spreadsheet would run.
  function cell(value) {
    const text = String(value).replace(/\s+/g, " ");
    return typeof value === "string" && /^'*[=+@-]/.test(text) ? `'${text}` : text;
  }
  function asTable(list) {
    const of = (run, name) => (epic.two ? `${name}_${run.letter.toLowerCase()}` : name);
    const columns = {
      narration_id: (i) => s.columns.id[i], video_id: (i) => s.videos.id[s.columns.video[i]], split: (i) => s.data.splits[s.columns.split[i]],
      start: (i) => s.columns.start[i], stop: (i) => s.columns.stop[i], narration: (i) => s.columns.said[i],
      verb: (i) => s.columns.verb[i], noun: (i) => s.columns.noun[i], truth: s.truth,
    };
    for (const run of runs) {
      columns[of(run, "verb_guess")] = (i) => (run.predicted(i) ? run.guess(i, "verb") : "");
      columns[of(run, "noun_guess")] = (i) => (run.predicted(i) ? run.guess(i, "noun") : "");
      columns[of(run, "guess")] = run.guessed;
      columns[of(run, "sure")] = (i) => (run.predicted(i) ? run.sure.action[i].toFixed(4) : "");
      columns[of(run, "result")] = run.word;
    }
    Object.assign(columns, { clip: (i) => (s.hasClip(i) ? `clips/${s.clipName(i)}` : ""), star: (i) => (own(i).star ? "1" : ""), note: (i) => own(i).note ?? "" });
    const lines = list.map((i) => Object.values(columns).map((value) => cell(value(i))).join("\t"));
    return `${[Object.keys(columns).join("\t"), ...lines].join("\n")}\n`;
  }
  const listed = () => s.inOrder.filter(epic.page.isShown);

  at("save-table").addEventListener("click", () => epic.download("segments.tsv", asTable(listed())));
  at("save-marks").addEventListener("click", () => epic.download("labels.tsv", asTable(s.inOrder.filter(isMarked))));

  return { show, isMarked };
})();
