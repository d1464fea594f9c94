// The segment that was chosen: its clip, its place in the video, and its five best guesses.
"use strict";

epic.viewer = (() => {
  const { segments: s, make, clock, percent, timeline } = epic;
  const at = (id) => document.getElementById(id);
  const player = at("player");
  const message = at("message");
  let now = -1;
  let moved = () => {};

  const HELP = "Open this page in Firefox, Chrome, Edge or Safari (some builds of Chromium lack H.264), "
    + "or play the file itself, for instance with VLC or mpv: ";
  const plays = () => player.canPlayType('video/mp4; codecs="avc1.42E01E"') !== "";

  function say(...parts) {
    message.replaceChildren(...parts);
    message.hidden = parts.length === 0;
    player.hidden = parts.length > 0;
  }

  const link = (i) => make("a", { href: s.clip(i) }, s.clip(i));

  function withoutClip(i) {
    const { data } = s;
    if (s.reason(i)) return `No clip: this segment was dropped (${s.reason(i).text}).`;
    if (data.splits[s.columns.split[i]] !== "val") return "No clip: clips are made of val only.";
    if (data.left_out) return `No clip: it did not fit into ${data.max_mb} MB (browse: max_mb: in the config).`;
    return "No clip was made of this segment.";
  }

  function load(i, play) {
    player.pause();
    if (!s.hasClip(i)) {
      player.removeAttribute("src");
      say(withoutClip(i));
    } else if (!plays()) {
      say("This browser cannot play H.264. ", HELP, link(i));
    } else {
      say();
      player.src = s.clip(i);
      player.playbackRate = Number(at("speed").value);
      if (play) player.play().catch(() => {}); // a browser may ask for a click first
    }
    timeline.at(s.columns.start[i]);
  }

  player.addEventListener("error", () => {
    if (!player.hasAttribute("src")) return;
    say("This clip cannot be played. Either its file is missing or cut (was the whole folder copied?), or this "
      + "browser cannot play H.264. ", HELP, link(now));
  });

  function follow() {
    if (now >= 0 && player.hasAttribute("src")) timeline.at(s.columns.start[now] + player.currentTime);
    if (!player.paused) requestAnimationFrame(follow);
  }
  player.addEventListener("play", follow);
  player.addEventListener("seeked", follow);
  player.addEventListener("ended", () => step(1, true));
  at("on").addEventListener("change", () => { player.loop = !at("on").checked; });
  at("speed").addEventListener("change", () => { player.playbackRate = Number(at("speed").value); });

  function badges(i) {
    const { columns } = s;
    const badge = (text, tone = "") => make("span", { className: `badge ${tone}` }, text);
    const found = [];
    if (s.predicted(i)) found.push(badge(s.bothRight(i) ? "✓ action right" : "✗ action wrong", s.tone(i)));
    else found.push(badge("– no prediction", "soft"));
    found.push(badge(`${s.videos.id[columns.video[i]]} · ${clock(columns.start[i])} – ${clock(columns.stop[i])}`));
    if (s.data.splits.length > 1) found.push(badge(s.data.splits[columns.split[i]]));
    if (s.isTail(i)) found.push(badge("tail class"));
    if (s.isUnseen(i)) found.push(badge("unseen participant"));
    if (s.reason(i)) found.push(badge(`dropped: ${s.reason(i).text}`, "wrong"));
    at("badges").replaceChildren(...found);
  }

  function bar(name, p, isTruth) {
    const row = make("div", { className: isTruth ? "guess truth" : "guess" },
      make("span", { className: "name" }, isTruth ? `✓ ${name}` : name), make("span", { className: "p" }, percent(p)));
    row.style.setProperty("--share", `${(100 * p).toFixed(1)}%`);
    return make("li", {}, row);
  }

  function guesses(i) {
    const { columns } = s;
    if (!s.predicted(i)) {
      at("guesses").replaceChildren(make("p", {}, "Truth: ", make("b", {}, s.truth(i)), ". ",
        make("span", { className: "soft" }, "The model made no prediction; the submission has the training prior.")));
      return;
    }
    const group = (title, list, isTruth, truth, p) => {
      const found = list.some(isTruth);
      const items = list.map((each) => bar(each.name, each.p, isTruth(each)));
      const part = make("section", {}, make("h3", {}, title), make("ol", {}, ...items));
      if (!found) part.append(make("p", { className: "soft small" }, `truth: ${truth}${p === null ? "" : `, ${percent(p)}`}`));
      return part;
    };
    const single = (task) => group(`${task}s`, s.best(i, task), (each) => each.id === columns[task][i],
      s.nameOf(task, columns[task][i]), s.truthShare(i, task));
    at("guesses").replaceChildren(
      group("actions", s.bestActions(i), (each) => each.verb === columns.verb[i] && each.noun === columns.noun[i],
        s.truth(i), s.truthShare(i, "verb") * s.truthShare(i, "noun")),
      single("verb"), single("noun"),
    );
  }

  function show(i, play = true) {
    now = i;
    at("what").replaceChildren(make("b", {}, s.columns.said[i] || s.truth(i)), " ",
      make("span", { className: "soft" }, s.columns.id[i]));
    badges(i);
    guesses(i);
    timeline.show(i);
    load(i, play);
    const own = s.ofVideo[s.columns.video[i]];
    at("before").disabled = own[0] === i;
    at("after").disabled = own[own.length - 1] === i;
    at("legend").textContent = legend(i);
    moved(i);
  }

  function legend(i) {
    const video = s.columns.video[i];
    const parts = ["Click a block to play it."];
    if (s.videos.damaged[video].length) parts.push("Hatched: damaged.");
    if (s.ofVideo[video].some((each) => s.columns.reason[each] >= 0)) parts.push("Dashed: dropped.");
    if (!s.videos.timeline[video]) {
      const { run } = s.data;
      const folder = run ? `results/runs/${run}` : "results";
      parts.push(`For the actions that the model finds by itself: snakemake ${folder}/timeline/${s.videos.id[video]}.tsv`);
    }
    return parts.join(" ");
  }

  function step(by, play) {
    const own = s.ofVideo[s.columns.video[now]];
    const next = own[own.indexOf(now) + by];
    if (next !== undefined) show(next, play);
  }

  at("before").addEventListener("click", () => step(-1, true));
  at("after").addEventListener("click", () => step(1, true));
  at("in").addEventListener("click", () => timeline.zoom(2));
  at("out").addEventListener("click", () => timeline.zoom(0.5));
  at("whole").addEventListener("click", () => timeline.zoom(0));
  timeline.onChoice((i) => show(i, true));

  return {
    show,
    step,
    current: () => now,
    toggle() {
      if (player.hidden || !player.hasAttribute("src")) return;
      if (player.paused) player.play().catch(() => {});
      else player.pause();
    },
    onMove(call) { moved = call; },
  };
})();
