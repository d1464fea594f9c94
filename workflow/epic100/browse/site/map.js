// The map of segments by their features, and the nearest ones of the chosen segment.
"use strict";

epic.map = (() => {
  const { at, segments: s, make, percent, form } = epic;
  const canvas = at("plane");
  let map = null; // of the run that is shown
  let place = new Map(); // of each segment in the columns of the map
  let last = null;

  const neighbours = (i) => (place.has(i)
    ? map.near.slice(place.get(i) * map.nearest, (place.get(i) + 1) * map.nearest) : []);

  // Pixels of a point; the plane is a square.
  const spot = (row) => {
    const half = canvas.clientWidth / 2;
    return [half + (map.x[row] / 1000) * (half - 12), half - (map.y[row] / 1000) * (half - 12)];
  };

  function draw(shown = last, current = null) {
    last = shown;
    if (at("map").hidden || !shown) return;
    const chosen = current ?? epic.viewer.current();
    const run = epic.run();
    if (map !== run.map) {
      map = run.map;
      place = new Map(map?.segment.map((segment, row) => [segment, row]));
    }
    at("plane").hidden = !map;
    at("map-words").textContent = map
      ? `${percent(map.share)} of the variance of ${map.segment.length} segments' features is in this plane. Dot: right; cross: wrong; strong: the filtered ones. A click shows the nearest.`
      : "No features of this run's videos were made. To make them: epic100 run all_features; then make this page again.";
    at("near").replaceChildren();
    if (!map) return;
    const [style, scale] = [getComputedStyle(document.body), window.devicePixelRatio];
    const colour = (name) => style.getPropertyValue(name);
    const colours = { right: colour("--right"), wrong: colour("--wrong"), soft: colour("--soft") };
    canvas.width = canvas.clientWidth * scale;
    canvas.height = canvas.width;
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    // Right is a dot and wrong a cross, so that they differ without colours too.
    const dot = (row, size) => {
      const [x, y] = spot(row);
      const tone = run.tone(map.segment[row]);
      pen.fillStyle = pen.strokeStyle = colours[tone];
      pen.beginPath();
      if (tone === "wrong") {
        for (const sign of [1, -1]) {
          pen.moveTo(x - size, y - sign * size);
          pen.lineTo(x + size, y + sign * size);
        }
        pen.stroke();
      } else {
        pen.arc(x, y, size, 0, 7);
        pen.fill();
      }
    };
    const size = Math.max(2.5, Math.min(5, 60 / Math.sqrt(map.segment.length)));
    for (const strong of [0, 1]) {
      pen.globalAlpha = strong ? 0.85 : 0.12;
      map.segment.forEach((segment, row) => { if (shown[segment] === strong) dot(row, size); });
    }
    pen.globalAlpha = 1;
    for (const [i, radius] of [...neighbours(chosen).map((each) => [each, 3]), [chosen, 6]]) {
      if (!place.has(i)) continue;
      dot(place.get(i), size + 1);
      pen.strokeStyle = colour("--ink");
      pen.beginPath();
      pen.arc(...spot(place.get(i)), size + radius, 0, 7);
      pen.stroke();
    }
    at("near").replaceChildren(...(place.has(chosen) ? [] : ["The chosen segment is not on the map."]), ...neighbours(chosen).map((each) => (
      make("li", {}, make("button", { type: "button", onclick: () => epic.viewer.show(each, true) },
        make("span", { className: run.tone(each) }, run.mark(each)), ` ${s.truth(each)} `, make("span", { className: "soft" }, s.columns.id[each]))))));
  }

  canvas.addEventListener("click", (event) => {
    let [best, least] = [-1, 15 ** 2]; // pixels
    map.segment.forEach((segment, row) => {
      const [x, y] = spot(row);
      const away = (x - event.offsetX) ** 2 + (y - event.offsetY) ** 2;
      if (away < least && last[segment]) [best, least] = [segment, away];
    });
    if (best >= 0) epic.viewer.show(best, true);
  });
  new ResizeObserver(() => draw()).observe(canvas.parentElement);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw());

  return { draw };
})();
