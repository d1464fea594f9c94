// The timeline of a video under its player: lanes of blocks, damage hatched, a line where it plays.

// A video: {name, seconds, damaged: [[start, stop]], why, lanes()}, where a lane is [name, spans] and a
// span {id, start, stop, text, tone, more}; one without `id` cannot be chosen. `chosen(id)` is called
// for a block, `sought(seconds)` for a place beside the blocks.
epic.makeTimeline = (element, chosen, sought = () => {}) => {
  const { at, make, clock } = epic;
  const SPAN = 30; // seconds on the screen at first
  const MOST = 400; // pixels of a second
  const WIDEST = 1e6; // pixels of a video
  let video = null;
  let selected = -1;
  let scale = 0; // pixels of a second
  let line = null;
  let time = 0; // of the video, where the line is

  const least = () => element.clientWidth / video.seconds;
  const within = (wanted) => Math.max(least(), Math.min(MOST, WIDEST / video.seconds, wanted));

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
      style: `left: ${span.start * scale}px; width: ${width}px; top: ${row * 1.65}rem` }, span.text);
    if (span.id >= 0) button.dataset.segment = span.id;
    else button.ariaDisabled = "true";
    return button;
  }

  function lane([name, spans]) {
    const rows = stack(spans);
    const style = `height: ${(Math.max(0, ...new Set(rows)) + 1) * 1.65}rem`;
    return [make("div", { className: "lane-name" }, make("span", {}, name)),
      make("div", { className: "lane", role: "group", ariaLabel: name, style }, ...spans.map((span, place) => block(span, rows[place])))];
  }

  function ticks() {
    const step = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600].find((each) => each * scale >= 56) || 1200;
    const marks = [];
    for (let each = 0; each < video.seconds; each += step) {
      marks.push(make("span", { style: `left: ${each * scale}px` }, step < 1 ? clock(each) : clock(each).replace(/\.0$/, "")));
    }
    return make("div", { className: "ticks", ariaHidden: "true" }, ...marks);
  }

  const damage = () => video.damaged.map(([start, stop]) => make("div", { className: "damage",
    title: `damaged: ${clock(start)} – ${clock(stop)}\n${video.why}`,
    style: `left: ${start * scale}px; width: ${Math.max((stop - start) * scale, 2)}px` }));

  function draw() {
    line = make("div", { className: "line" });
    element.replaceChildren(make("div", { className: "film", style: `width: ${video.seconds * scale}px` },
      ...damage(), ticks(), ...video.lanes().flatMap(lane), line));
    element.setAttribute("aria-label", `Timeline of ${video.name}`);
    mark();
    place();
  }

  function place() {
    line.style.transform = `translateX(${time * scale}px)`;
  }

  // One block is a stop of the Tab key: the selected one, else the first one.
  function mark() {
    for (const block of element.querySelectorAll(".selected, [tabindex='0']")) {
      block.classList.remove("selected");
      Object.assign(block, { ariaPressed: "false", tabIndex: -1 });
    }
    const own = [...element.querySelectorAll(`[data-segment="${selected}"]`)];
    for (const block of own) {
      block.classList.add("selected");
      block.ariaPressed = "true";
    }
    const [stop] = [...own, ...element.querySelectorAll(".block")];
    (stop ?? element).tabIndex = 0; // Tab reaches also a timeline without blocks
  }
  epic.rove(element, ".block");
  element.addEventListener("click", ({ target, clientX }) => {
    const id = target.closest(".block")?.dataset.segment;
    if (id !== undefined) chosen(Number(id));
    else sought((clientX - element.firstChild.getBoundingClientRect().left) / scale);
  });

  function centre(seconds) {
    element.scrollLeft = seconds * scale - element.clientWidth / 2;
  }

  function zoom(factor) {
    const middle = (element.scrollLeft + element.clientWidth / 2) / scale;
    scale = within(scale * factor);
    draw();
    centre(factor > 1 ? time : middle);
  }
  at("in").addEventListener("click", () => zoom(2));
  at("out").addEventListener("click", () => zoom(0.5));
  at("whole").addEventListener("click", () => zoom(0));
  window.addEventListener("resize", () => { if (video && scale < least()) zoom(0); });

  return {
    zoom, draw,
    // Show a video with a span selected, and that in sight.
    show(next, id, start, stop) {
      const changed = next !== video;
      [video, selected] = [next, id];
      if (changed || !scale) {
        scale = within(scale || element.clientWidth / SPAN);
        draw();
      }
      mark();
      const [left, right] = [start * scale, stop * scale];
      if (left < element.scrollLeft || right > element.scrollLeft + element.clientWidth) centre((start + stop) / 2);
    },
    // Move the line to a time of the video.
    at(seconds) {
      time = seconds;
      place();
      const x = time * scale;
      if (x > element.scrollLeft + element.clientWidth) element.scrollLeft = x - 40;
    },
  };
};
