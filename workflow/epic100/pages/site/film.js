// The page of `epic100 predict`: a film, the actions that the model finds in it, and the five best of
// each clip where it plays.

(() => {
  const { at, make, clock, percent, thousands, choices } = epic;
  const form = at("filter");
  const player = at("player");
  const TASKS = ["verb", "noun"];
  let film = null; // as `pages/browse.py` writes it
  let video = null; // what the timeline is made of
  let rows = []; // places of the film's actions
  let time = 0; // where the film is
  let clip = null; // its row there
  let action = null; // the action there; -1: none

  const nameOf = (verb, noun) => `${film.names.verb[verb]} ${film.names.noun[noun]}`;
  const named = (i) => nameOf(film.actions[i][2], film.actions[i][3]);
  const isShown = (i) => TASKS.every((task, place) => ["", String(film.actions[i][2 + place])].includes(form.elements[task].value));
  const timeline = epic.makeTimeline(at("timeline"), (i) => seek(film.actions[i][0]), seek);
  const grid = epic.makeGrid(at("action-table"), {
    label: "Actions", field: form.elements.sort, empty: "No action: loosen the filters.", chosen: play, moved: play,
    columns: [
      { key: "start", title: "from", width: "5rem", right: true, value: (i) => film.actions[i][0], cell: (i) => clock(film.actions[i][0]) },
      { key: "action", title: "action", width: "minmax(7rem, 1fr)", value: named },
      { key: "sure", title: "sure", width: "5rem", right: true, down: true, value: (i) => film.actions[i][4], cell: (i) => percent(film.actions[i][4]) },
      { key: "s", title: "s", width: "4rem", right: true, down: true, from: 400, value: (i) => film.actions[i][1] - film.actions[i][0],
        cell: (i) => (film.actions[i][1] - film.actions[i][0]).toFixed(1) },
    ],
  });

  const lanes = () => [["what the model sees", rows.map((i) => {
    const [start, stop, , , p] = film.actions[i];
    return { id: i, start, stop, text: named(i), tone: isShown(i) ? "seen" : "dropped", more: `${percent(p)} sure` };
  })]];

  // The last of some rows that begins at this time or before it; -1: none.
  function lastBefore(list, seconds) {
    let [low, high] = [0, list.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (list[middle][0] <= seconds) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  function drawGuesses(there) {
    if (there === clip) return;
    clip = there;
    const [, actions, verbs, nouns] = clip;
    const single = (task, list) => epic.bars(`${task}s`, list.map(([id, p]) => ({ name: film.names[task][id], p })));
    at("guesses").replaceChildren(...(actions
      ? [epic.bars("actions", actions.map(([verb, noun, p]) => ({ name: nameOf(verb, noun), p }))), single("verb", verbs), single("noun", nouns)]
      : [make("p", { className: "soft" }, "This moment is damaged, so the model has not seen it.")]));
  }

  function draw() {
    const last = lastBefore(film.actions, time);
    const there = last >= 0 && time < film.actions[last][1] ? last : -1;
    at("moment").textContent = `${clock(time)} ${there < 0 ? "no action" : named(there)}`;
    timeline.at(time);
    drawGuesses(film.clips[Math.max(0, lastBefore(film.clips, time))]);
    if (there === action) return;
    action = there;
    timeline.show(video, action, time, time);
    grid.select(action);
  }

  function seek(seconds) {
    time = Math.max(0, Math.min(seconds, film.seconds));
    if (player.readyState) player.currentTime = time;
    timeline.show(video, action, time, time);
    draw();
  }
  function play(i) {
    seek(film.actions[i][0]);
  }

  function follow() {
    if (!film.clips.length) return player.pause();
    time = player.currentTime;
    draw();
    if (!player.paused) requestAnimationFrame(follow);
  }
  for (const event of ["play", "seeked"]) player.addEventListener(event, follow);

  // Of a film of an unknown format a browser may play the sound alone.
  function setFile(path) {
    at("message").hidden = true;
    at("stage").hidden = false;
    player.src = path.split("/").map(encodeURIComponent).join("/");
  }
  function refuse() {
    at("message").hidden = false;
    at("stage").hidden = true;
    at("place").textContent = film.file;
    at("command").textContent = film.command;
  }
  player.addEventListener("error", refuse);
  player.addEventListener("loadedmetadata", () => {
    if (player.videoWidth) player.currentTime = time;
    else refuse();
  });
  at("copy").addEventListener("click", () => setFile(film.copy));

  function filter() {
    const shown = rows.filter(isShown).length;
    grid.show(rows, isShown);
    grid.select(action);
    timeline.draw();
    at("summary").textContent = `${thousands(shown)} of ${thousands(rows.length)} actions shown; the film lasts ${clock(film.seconds)}.`;
  }
  form.addEventListener("input", filter);
  form.addEventListener("reset", () => setTimeout(filter));

  function show() {
    film = window.epicData;
    document.title = `${film.name}: what the model sees`;
    at("title").textContent = film.name;
    at("summary").textContent = "";
    at("lacks").replaceChildren(...film.lacks.map((text) => make("p", { className: "warning" }, text)));
    rows = film.actions.map((_, i) => i);
    TASKS.forEach((task, place) => {
      const found = [...new Set(film.actions.map((row) => row[2 + place]))].map((id) => [String(id), film.names[task][id]]);
      choices(form.elements[task], [["", "any"], ...found.sort((a, b) => a[1].localeCompare(b[1], "en"))]);
    });
    [time, clip, action] = [0, null, null];
    video = { name: film.name, seconds: film.seconds, damaged: film.damaged, why: "found by the scan", lanes };
    for (const id of ["viewer", "lists"]) at(id).hidden = !film.clips.length;
    if (film.clips.length) {
      setFile(film.file);
      timeline.show(video, -1, 0, 0);
      filter();
      draw();
    }
    performance.mark("epic-ready");
  }

  // The data of a film are a script, since a page from disk may read nothing else.
  function load() {
    const script = make("script", { src: `index_files/${encodeURIComponent(at("film").value)}.film.js`, onload: show });
    document.head.append(script);
    script.remove();
  }
  choices(at("film"), window.epicData.map((name) => [name, name]));
  at("films").hidden = window.epicData.length < 2;
  at("film").addEventListener("change", load);
  load();
})();
