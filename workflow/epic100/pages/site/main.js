// Puts the views together: filters, tabs, keys.

(() => {
  const { at, make, segments: s, form, filters, lists, viewer, timeline, player, store, summary } = epic;
  const wide = window.matchMedia("(min-width: 900px)");
  const panels = [...document.querySelectorAll("[role=tabpanel]")];
  const tabs = panels.map(({ id, dataset }) => make("button", { role: "tab", id: `tab-${id}` }, dataset.title));
  const CELLS = ["cell", "sure"]; // choices of the views, which stay whole while one clicks in them
  let shown = null;
  let drawn = ""; // what the open view shows

  tabs.forEach((tab, place) => {
    tab.setAttribute("aria-controls", panels[place].id);
    panels[place].setAttribute("aria-labelledby", tab.id);
  });
  at("tabs").append(...tabs);
  at("last-tab").textContent = tabs.length;
  at("filters").open = wide.matches;
  summary.about();

  function show(i) {
    viewer.show(i, true);
    if (!wide.matches) at("viewer").scrollIntoView();
  }
  const list = lists.makeSegments((i) => viewer.show(i, true));
  const videos = lists.makeVideos((video) => {
    show(s.ofVideo[video][0]);
    timeline.zoom(0);
  });
  at("segment-table").addEventListener("click", ({ target }) => {
    if (!wide.matches && !target.closest(".head")) at("viewer").scrollIntoView();
  });

  // All of the filters but the choices of the views.
  const beneath = () => filters.select({ ...form.values(), ...Object.fromEntries(CELLS.map((name) => [name, ""])) });
  const order = s.videos.id.map((_, video) => video);
  const views = {
    segments: () => {
      list.show(s.inOrder, epic.page.isShown, form.fields.run.value);
      list.select(viewer.current());
    },
    videos: () => videos.show(order, () => true),
  };

  function draw() {
    const values = form.values();
    const tab = panels.some(({ id }) => id === values.tab) ? values.tab : "segments";
    tabs.forEach((each, place) => {
      const own = panels[place].id === tab;
      Object.assign(each, { ariaSelected: String(own), tabIndex: own ? 0 : -1 });
      panels[place].hidden = !own;
    });
    if (document.activeElement.closest("[role=tabpanel][hidden]")) at(tab === "segments" ? "segment-table" : `tab-${tab}`).focus();
    const next = JSON.stringify(values);
    if (next === drawn) return;
    drawn = next;
    shown = filters.select(values);
    if (tab in views) views[tab]();
    else epic[tab].draw(beneath());
    summary.draw(shown);
  }

  const open = (tab) => form.set({ tab: tab.getAttribute("aria-controls") });
  for (const tab of tabs) tab.addEventListener("click", () => open(tab));
  epic.rove(at("tabs"), "[role=tab]", open);

  // What the views call when something was chosen.
  epic.page = {
    draw, isShown: (i) => shown[i] === 1,
    redraw() {
      drawn = "";
      draw();
    },
    moved(i) {
      list.select(i);
      form.note();
    },
  };
  at("clear").addEventListener("click", form.clear);
  at("to-list").addEventListener("click", () => at("lists").scrollIntoView());

  function move(by) {
    const next = list.step(by);
    if (next !== undefined) viewer.show(next, true);
  }
  const keys = {
    ArrowDown: () => move(1), ArrowUp: () => move(-1), ArrowRight: () => viewer.step(1, true), ArrowLeft: () => viewer.step(-1, true),
    " ": player.toggle, Escape: form.clear,
  };
  const letters = {
    j: () => move(1), k: () => move(-1), "+": () => timeline.zoom(2), "-": () => timeline.zoom(0.5), 0: () => timeline.zoom(0),
    "/": () => { at("filters").open = true; form.fields.text.focus(); }, s: () => at("star").click(), n: () => at("note").focus(),
    ...Object.fromEntries(tabs.map((tab, place) => [place + 1, () => open(tab)])),
  };
  at("letters").checked = store.get("epic100 letters", true);
  at("letters").addEventListener("change", () => store.set("epic100 letters", at("letters").checked));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { target } = event;
    if (target.matches("input[type=search], input[type=text]")) {
      if (event.key === "Escape") target.blur();
      return;
    }
    if (target.matches("select, video")) return;
    if (event.key === " " && target.matches("button, a, summary, input")) return;
    const call = keys[event.key] ?? (at("letters").checked ? letters[event.key] : undefined);
    if (!call) return;
    event.preventDefault();
    call();
  });

  // A pasted address, or Back.
  window.addEventListener("hashchange", () => {
    const asked = form.restore();
    draw();
    if (asked >= 0 && asked !== viewer.current()) viewer.show(asked, false);
  });

  const asked = form.restore();
  draw();
  // The first view is of a mistake, if there is one.
  const first = asked >= 0 ? asked : s.inOrder.find((i) => shown[i] && epic.run().tone(i) === "wrong") ?? s.inOrder.find((i) => shown[i]) ?? -1;
  if (first >= 0) viewer.show(first, false);
  performance.mark("epic-ready");
})();
