// The clip of a segment, or its moment in the whole video with two seconds around it.

epic.timeline = epic.makeTimeline(epic.at("timeline"), (i) => epic.viewer.show(i, true));
epic.player = (() => {
  const { at, segments: s, make, timeline } = epic;
  const AROUND = 2; // seconds
  const player = at("player");
  const message = at("message");
  let now = -1;
  let begin = 0; // seconds of the video at the file's start
  let span = null; // [from, to] to play of a whole video
  let kept = null; // the address of a clip in memory
  let lost = false; // whether whole videos are not where this page was made
  let turn = 0; // of the last call of `load`, since one may have to wait for its file

  const HELP = "Open this page in Firefox, Chrome, Edge or Safari (some builds of Chromium lack H.264), "
    + "or play the file itself, for instance with VLC or mpv: ";
  const plays = () => player.canPlayType('video/mp4; codecs="avc1.42E01E"') !== "";
  const canBeWhole = (i) => Boolean(s.file(i)) && !lost;
  const whole = (i) => s.file(i).split("/").map(encodeURIComponent).join("/");
  const moment = (i) => `${whole(i)}#t=${s.columns.start[i]},${s.columns.stop[i]}`;
  // A browser may ask for a click first, and another clip may come in between.
  const start = () => player.play().catch(() => {});
  const link = () => {
    const href = span ? moment(now) : `clips/${s.clipName(now)}`;
    return make("a", { href }, span ? s.file(now) : href);
  };

  function say(...parts) {
    message.replaceChildren(...parts);
    message.hidden = parts.length === 0;
    player.hidden = parts.length > 0;
  }

  function withoutClip(i) {
    const { data } = s;
    if (s.reason(i)) return `No clip: this segment was dropped (${s.reason(i).text}).`;
    if (!s.isVal(i)) return "No clip: clips are made of val only.";
    if (data.left_out) return `No clip: it did not fit into ${data.max_mb} MB (browse: max_mb: in the config).`;
    return "No clip was made of this segment.";
  }

  // From a web server a clip is read whole first, since not every server can seek.
  async function addressOf(i) {
    const name = `clips/${s.clipName(i)}`;
    if (!window.location.protocol.startsWith("http")) return name;
    const answer = await fetch(name).catch(() => ({ ok: false }));
    return answer.ok ? URL.createObjectURL(await answer.blob()) : name;
  }

  async function load(i, play) {
    now = i;
    turn += 1;
    const own = turn;
    player.pause();
    // The player lets go of a clip before its address is gone: one that is just read is an error.
    player.removeAttribute("src");
    player.load();
    if (kept) setTimeout(URL.revokeObjectURL, 1000, kept);
    kept = null;
    const around = at("around").checked && canBeWhole(i);
    span = around ? [Math.max(0, s.columns.start[i] - AROUND), s.columns.stop[i] + AROUND] : null;
    begin = around ? 0 : s.columns.start[i];
    timeline.at(s.columns.start[i]);
    at("around").closest("label").hidden = !canBeWhole(i);
    if (!s.hasClip(i) && !around) {
      say(withoutClip(i), canBeWhole(i) ? " Its moment in the whole video: tick “2 s around”." : "");
    } else if (!plays()) {
      say("This browser cannot play H.264. ", HELP, link());
    } else {
      say();
      const address = around ? whole(i) : await addressOf(i);
      if (turn !== own) return URL.revokeObjectURL(address);
      kept = address; // a plain address has nothing to give up
      player.src = address;
      player.loop = !at("on").checked && !span;
      player.playbackRate = Number(at("speed").value);
      if (play) start();
    }
  }

  player.addEventListener("loadedmetadata", () => { if (span) [player.currentTime] = span; });
  player.addEventListener("error", () => {
    if (!player.hasAttribute("src")) return;
    // A folder that was copied elsewhere has the clips alone.
    if (span && player.error.code === player.error.MEDIA_ERR_SRC_NOT_SUPPORTED) {
      lost = true;
      return epic.viewer.show(now, true);
    }
    say(span ? "The whole video cannot be played to here. " : "This clip cannot be played. Either its file is missing or cut (was the whole folder copied?), or this "
      + "browser cannot play H.264. ", HELP, link());
  });

  function follow() {
    if (now >= 0 && player.hasAttribute("src")) timeline.at(begin + player.currentTime);
    if (span && player.currentTime >= span[1]) {
      if (at("on").checked) return epic.viewer.step(1, true);
      [player.currentTime] = span;
    }
    if (!player.paused) requestAnimationFrame(follow);
  }
  player.addEventListener("play", follow);
  player.addEventListener("seeked", () => {
    if (span && player.currentTime < span[0] - 0.5) {
      say("This server cannot seek in a whole video (it knows no Range requests): open this page from disk, or play the file: ", link());
    } else follow();
  });
  player.addEventListener("ended", () => {
    if (at("on").checked) return epic.viewer.step(1, true);
    [player.currentTime] = span; // the file ends before the two seconds after the moment
    start();
  });
  at("on").addEventListener("change", () => { player.loop = !at("on").checked && !span; });
  at("speed").addEventListener("change", () => { player.playbackRate = Number(at("speed").value); });
  at("around").addEventListener("change", () => load(now, true));

  return {
    load, moment, canBeWhole,
    toggle() {
      if (player.hidden || !player.hasAttribute("src")) return;
      if (player.paused) start();
      else player.pause();
    },
  };
})();
