// Puts the views together: filters, tabs, keys, and the address that others can open.
"use strict";

(async () => {
  const { segments: s, make, thousands, tables, matrix, viewer, timeline } = epic;
  const at = (id) => document.getElementById(id);
  const form = at("filter");
  const wide = window.matchMedia("(min-width: 900px)");
  let mix = null; // a cell of the matrix
  let shown = null;
  let drawn = ""; // what the matrix shows

  // ---- choices of the filters

  function options(name, first, list) {
    const field = form.elements[name];
    field.replaceChildren(...[["", first], ...list].map(([value, text]) => make("option", { value }, text)));
    if (list.length < 2) field.closest("label").hidden = true;
  }
  function classes(task) {
    const counts = new Map();
    for (const id of s.columns[task]) counts.set(id, (counts.get(id) || 0) + 1);
    return [...counts].filter(([id]) => id >= 0)
      .map(([id, number]) => [String(id), `${s.nameOf(task, id)} (${thousands(number)})`])
      .sort((a, b) => a[1].localeCompare(b[1], "en"));
  }
  options("split", "any", s.data.splits.map((name, i) => [String(i), name]));
  options("participant", "any", [...new Set(s.videos.participant)].sort().map((name) => [name, name]));
  options("verb", "any", classes("verb"));
  options("noun", "any", classes("noun"));
  const kinds = [...new Set(s.data.reasons.map((each) => each.kind))];
  options("reason", "any", kinds.length
    ? [["kept", "kept"], ["dropped", "dropped"], ...kinds.map((kind) => [kind, `dropped: ${kind}`])] : []);
  form.elements.unseen.closest("label").hidden = !s.data.unseen.length;
  form.elements.tail.closest("label").hidden = !s.data.tail_verbs.length && !s.data.tail_nouns.length;
  if (s.data.run) at("run").textContent += `, run ${s.data.run}`;
  at("official").replaceChildren(
    `${s.data.official.toFixed(1)} % of all val actions are right, as the leaderboard counts. `,
    ...Object.entries(s.data.pages || {}).flatMap(([name, href]) => [make("a", { href }, name), " "]),
  );
  if (s.data.left_out) {
    at("no-clips").textContent = `${thousands(s.data.left_out)} clips did not fit into ${s.data.max_mb} MB `
      + "(browse: max_mb: in the config). Those with a wrong guess came first, evenly over the participants.";
    at("no-clips").hidden = false;
  }
  at("filters").open = wide.matches;

  // ---- what the filters show

  const filter = () => Object.fromEntries([...new FormData(form)].filter(([, value]) => value));

  function summarize() {
    const sums = s.accuracies(shown);
    const share = (task) => make("b", {}, sums.predicted ? `${((100 * sums[task]) / sums.predicted).toFixed(1)} %` : "–");
    at("summary").replaceChildren(
      make("span", {}, make("b", {}, thousands(sums.shown)), ` of ${thousands(s.count)} segments`),
      ...["action", "verb", "noun"].map((task) => make("span", {}, `${task} `, share(task))),
    );
    if (sums.predicted < sums.shown) {
      at("summary").append(make("span", { className: "soft" }, `right, of ${thousands(sums.predicted)} with a prediction`));
    } else at("summary").append(make("span", { className: "soft" }, "right"));
    const number = Object.keys(filter()).length + (mix ? 1 : 0);
    at("active").textContent = number ? `(${number} on)` : "";
  }

  function showMix() {
    const field = at("mix");
    field.hidden = !mix;
    if (!mix) return;
    const name = (id) => (id === null ? "any" : id instanceof Set ? "others" : s.nameOf(mix.task, id));
    const remove = make("button", { type: "button", title: "remove" }, "×");
    remove.setAttribute("aria-label", "remove this choice of the matrix");
    remove.addEventListener("click", () => { mix = null; apply(); });
    field.replaceChildren(`${mix.task}: ${name(mix.truth)} taken for ${name(mix.guess)} `, remove);
  }

  // The matrix has all filters but its own cell, so that one can go on clicking in it.
  function drawMatrix() {
    const [task, count] = [at("task").value, at("count").value];
    const key = JSON.stringify([filter(), task, count]);
    if (at("confusion").hidden || key === drawn) return;
    matrix.draw(s.select(filter(), null), task, Number(count));
    drawn = key;
  }

  const list = tables.makeSegments(at("segment-table"), (i) => choose(i));
  await list.built;

  function apply() {
    shown = s.select(filter(), mix);
    list.filter(shown);
    list.mark(viewer.current());
    summarize();
    showMix();
    drawMatrix();
    note();
  }

  // ---- the address: filters and segment

  function note() {
    const words = new URLSearchParams(filter());
    if (viewer.current() >= 0) words.set("segment", s.columns.id[viewer.current()]);
    window.history.replaceState(null, "", `#${words}`);
  }
  function restore() {
    for (const [name, value] of new URLSearchParams(window.location.hash.slice(1))) {
      const field = form.elements[name];
      if (field?.type === "checkbox") field.checked = true;
      else if (field) field.value = value;
      if (name === "segment" && s.byId.has(value)) return s.byId.get(value);
    }
    return -1;
  }

  // ---- choosing

  function choose(i) {
    viewer.show(i, true);
    if (!wide.matches) at("viewer").scrollIntoView();
  }
  viewer.onMove((i) => { if (shown) { list.mark(i); note(); } });
  matrix.onChoice((cell) => { mix = cell; open("segments"); apply(); });

  let videoTable = null;
  function open(name) {
    for (const tab of document.querySelectorAll("[role=tab]")) {
      const own = tab.id === `tab-${name}`;
      tab.setAttribute("aria-selected", String(own));
      tab.tabIndex = own ? 0 : -1;
      at(tab.getAttribute("aria-controls")).hidden = !own;
    }
    if (name === "confusion") drawMatrix();
    if (name === "segments") list.table.redraw();
    if (name === "videos" && !videoTable) {
      videoTable = tables.makeVideos(at("video-table"), (video) => {
        choose(s.ofVideo[video][0]);
        timeline.zoom(0);
      });
    }
  }
  const tabs = [...document.querySelectorAll("[role=tab]")];
  for (const tab of tabs) tab.addEventListener("click", () => open(tab.id.slice(4)));
  tabs[0].parentElement.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.stopPropagation();
    const next = tabs[(tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length];
    open(next.id.slice(4));
    next.focus();
  });

  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => { mix = null; apply(); }));
  for (const id of ["task", "count"]) at(id).addEventListener("change", drawMatrix);
  window.addEventListener("resize", timeline.resized);

  const keys = {
    ArrowDown: () => move(1), j: () => move(1), ArrowUp: () => move(-1), k: () => move(-1),
    ArrowRight: () => viewer.step(1, true), ArrowLeft: () => viewer.step(-1, true),
    " ": viewer.toggle, "+": () => timeline.zoom(2), "-": () => timeline.zoom(0.5), 0: () => timeline.zoom(0),
    1: () => open("segments"), 2: () => open("confusion"), 3: () => open("videos"),
    "/": () => { at("filters").open = true; form.elements.text.focus(); }, Escape: () => form.reset(),
  };
  function move(by) {
    const next = list.step(viewer.current(), by);
    if (next !== undefined) viewer.show(next, true);
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { target } = event;
    if (target.matches("input[type=search]")) {
      if (event.key === "Escape" && !target.value) target.blur();
      return;
    }
    if (target.matches("select, video")) return;
    if (event.key === " " && target.matches("button, a, summary, input")) return;
    const call = keys[event.key];
    if (!call) return;
    event.preventDefault();
    call();
  });

  const asked = restore();
  apply();
  const first = asked >= 0 ? asked : list.step(-1, 1);
  if (first !== undefined) viewer.show(first, false);
  performance.mark("epic-ready");
})();
