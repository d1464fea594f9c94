// The timeline of a video under the player: the annotation, what each run sees, damage hatched. With
// two runs the annotation is between them.
"use strict";

epic.timeline = (() => {
  const { at, segments: s, runs, make, clock, percent } = epic;
  const element = at("timeline");
  const SPAN = 30; // seconds on the screen at first
  const MOST = 400; // pixels of a second
  let video = -1;
  let selected = -1;
  let scale = 0; // pixels of a second
  let line = null;
  let time = 0; // of the video, where the line is

  const least = () => element.clientWidth / s.videos.seconds[video];

  // Rows for spans that overlap: each goes into the first row that is free at its start.
  function stack(spans) {
    const ends = [];
    return spans.map(({ start, stop }) => {
      let row = ends.findIndex((end) => end <= start);
      if (row < 0) row = ends.length;
      ends[row] = stop;
      return row;
    });
  }

  function block(span, row) {
    const width = Math.max((span.stop - span.start) * scale - 1, 3);
    const button = make("button", { type: "button", tabIndex: -1, className: `block ${span.tone}`,
      title: `${span.text}\n${clock(span.start)} – ${clock(span.stop)}${span.more ? `\n${span.more}` : ""}`,
      style: `left: ${span.start * scale}px; width: ${width}px; top: ${row * 1.65}rem`,
      onclick() { if (span.i >= 0) epic.viewer.show(span.i, true); } }, span.text);
    if (span.i >= 0) button.dataset.segment = span.i;
    else button.ariaDisabled = "true";
    return button;
  }

  function lane(name, spans) {
    const rows = stack(spans);
    const style = `height: ${(Math.max(0, ...rows) + 1) * 1.65}rem`;
    return [make("div", { className: "lane-name" }, make("span", {}, name)),
      make("div", { className: "lane", role: "group", ariaLabel: name, style }, ...spans.map((span, place) => block(span, rows[place])))];
  }

  const annotated = () => s.ofVideo[video].map((i) => ({
    i, start: s.columns.start[i], stop: s.columns.stop[i], text: s.truth(i),
    tone: s.columns.reason[i] < 0 ? "truth" : "truth dropped",
    more: s.reason(i) ? `dropped: ${s.reason(i).text}` : s.columns.said[i],
  }));

  const guessed = (run) => s.ofVideo[video].filter(run.predicted).map((i) => ({
    i, start: s.columns.start[i], stop: s.columns.stop[i], text: `${run.mark(i)} ${run.guessed(i)}`,
    tone: run.tone(i), more: `${percent(run.sure.action[i])} sure; truth: ${s.truth(i)}`,
  }));

  // The segment that a stretch of the whole video's prediction is mostly over.
  function under(start, stop) {
    const over = (i) => Math.min(stop, s.columns.stop[i]) - Math.max(start, s.columns.start[i]);
    const [best] = [...s.ofVideo[video]].sort((a, b) => over(b) - over(a));
    return best !== undefined && over(best) > 0 ? best : -1;
  }
  const seen = (run) => run.timeline(video).map(([start, stop, verb, noun, p]) => {
    const i = under(start, stop);
    const isTrue = i >= 0 && verb === s.columns.verb[i] && noun === s.columns.noun[i];
    return { i, start, stop, tone: "seen", text: `${isTrue ? "✓ " : ""}${s.action(verb, noun)}`, more: `${percent(p)} sure` };
  });
  function laneOf(run) {
    const name = run.timeline(video) ? "prediction over the whole video" : "prediction of each segment";
    return lane(epic.two ? `${run.letter}, ${run.name}: ${name}` : name, run.timeline(video) ? seen(run) : guessed(run));
  }

  function ticks() {
    const step = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600].find((each) => each * scale >= 56) || 1200;
    const marks = [];
    for (let at = 0; at < s.videos.seconds[video]; at += step) {
      marks.push(make("span", { style: `left: ${at * scale}px` }, step < 1 ? clock(at) : clock(at).replace(/\.0$/, "")));
    }
    return make("div", { className: "ticks", ariaHidden: "true" }, ...marks);
  }

  const damage = () => s.videos.damaged[video].map(([start, stop]) => make("div", { className: "damage",
    title: `damaged: ${clock(start)} – ${clock(stop)}\n${s.videos.why[video]}`,
    style: `left: ${start * scale}px; width: ${Math.max((stop - start) * scale, 2)}px` }));

  function draw() {
    const [first, second] = runs;
    line = make("div", { className: "line" });
    const style = `width: ${s.videos.seconds[video] * scale}px`;
    element.replaceChildren(make("div", { className: "film", style }, ...damage(), ticks(),
      ...(second ? laneOf(first) : []), ...lane("annotation", annotated()), ...laneOf(second ?? first), line));
    element.setAttribute("aria-label", `Timeline of ${s.videos.id[video]}`);
    mark();
    place();
  }

  function place() {
    line.style.transform = `translateX(${time * scale}px)`;
  }

  function mark() {
    for (const block of element.querySelectorAll(".block")) {
      const own = block.dataset.segment === String(selected);
      block.classList.toggle("selected", own);
      block.ariaPressed = String(own);
      block.tabIndex = -1;
    }
    const stop = element.querySelector(".selected") ?? element.querySelector(".block");
    if (stop) stop.tabIndex = 0;
  }
  epic.rove(element, ".block");

  function centre(seconds) {
    element.scrollLeft = seconds * scale - element.clientWidth / 2;
  }

  function zoom(factor) {
    const middle = (element.scrollLeft + element.clientWidth / 2) / scale;
    const wanted = factor === 0 ? least() : scale * factor;
    scale = Math.max(least(), Math.min(MOST, wanted));
    draw();
    centre(factor > 1 && selected >= 0 ? s.columns.start[selected] : middle);
  }

  return {
    zoom,
    // Show the video of a segment, with the segment in sight.
    show(i) {
      const changed = s.columns.video[i] !== video;
      video = s.columns.video[i];
      selected = i;
      if (changed || !scale) {
        scale = Math.max(least(), Math.min(MOST, scale || element.clientWidth / SPAN));
        draw();
      }
      mark();
      const [left, right] = [s.columns.start[i] * scale, s.columns.stop[i] * scale];
      if (left < element.scrollLeft || right > element.scrollLeft + element.clientWidth) {
        centre((s.columns.start[i] + s.columns.stop[i]) / 2);
      }
    },
    // Move the line to a time of the video.
    at(seconds) {
      time = seconds;
      place();
      const x = time * scale;
      if (x > element.scrollLeft + element.clientWidth) element.scrollLeft = x - 40;
    },
    resized() {
      if (video >= 0 && scale < least()) zoom(0);
    },
  };
})();
