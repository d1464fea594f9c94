// The fields of the form are the state of the page, with the segment. The address holds those that
// are not as at first, so that Back, bookmarks and pasted links work.

epic.form = (() => {
  const { at, segments: s, make, choices, thousands } = epic;
  const form = at("filter");
  // A field with `data-view` chooses a view; it filters nothing, and Clear leaves it as it is.
  const isFilter = (name) => !("view" in form.elements[name].dataset);
  // What the views choose, as text; an address may hold anything.
  const SHAPES = { cell: /^(verb|noun):\d*:!?[\d,]*$/, sure: /^(action|verb|noun):\d+:\d+$/ };
  let typed = false; // whether the last step of the history is of typing

  function offer(name, list) {
    const field = form.elements[name];
    choices(field, [["", "any"], ...list]);
    if (list.length < 2) field.closest("label").hidden = true;
  }
  function classes(task) {
    const counts = new Map();
    for (const id of s.columns[task]) counts.set(id, (counts.get(id) || 0) + 1);
    return [...counts].filter(([id]) => id >= 0)
      .map(([id, number]) => [String(id), `${s.nameOf(task, id)} (${thousands(number)})`])
      .sort((a, b) => a[1].localeCompare(b[1], "en"));
  }
  offer("split", s.data.splits.map((name, i) => [String(i), name]));
  offer("participant", [...new Set(s.videos.participant)].sort().map((name) => [name, name]));
  offer("verb", classes("verb"));
  offer("noun", classes("noun"));
  const kinds = [...new Set(s.data.reasons.map((each) => each.kind))];
  offer("reason", kinds.length
    ? [["kept", "kept"], ["dropped", "dropped"], ...kinds.map((kind) => [kind, `dropped: ${kind}`])] : []);
  form.elements.unseen.closest("label").hidden = !s.data.unseen.length;
  form.elements.tail.closest("label").hidden = !s.data.tail_verbs.length && !s.data.tail_nouns.length;
  choices(form.elements.run, epic.runs.map((run, i) => [String(i), `${run.letter}: ${run.name}`]));
  form.elements.run.closest("label").hidden = !epic.two;
  if (epic.two) {
    form.elements.result.append(...[["first", "A right, B wrong"], ["second", "B right, A wrong"], ["differ", "A and B differ"]]
      .map(([value, text]) => make("option", { value }, text)));
  }

  const values = () => Object.fromEntries([...new FormData(form)].filter(([, value]) => value));
  const first = values();
  const moved = () => Object.entries({ ...Object.fromEntries(Object.keys(first).map((name) => [name, ""])), ...values() })
    .filter(([name, value]) => value !== (first[name] ?? ""));

  function put(name, value) {
    const field = form.elements[name];
    if (SHAPES[name] && !SHAPES[name].test(value)) field.value = "";
    else if (field?.type === "checkbox") field.checked = Boolean(value);
    else if (field?.options && ![...field.options].some((option) => option.value === value)) field.selectedIndex = 0;
    else if (field) field.value = value;
  }
  const names = new Set([...form.elements].map((field) => field.name).filter(Boolean));

  function address() {
    const words = new URLSearchParams(moved());
    const i = epic.viewer.current();
    if (i >= 0) words.set("segment", s.columns.id[i]);
    return `#${words}`;
  }
  const without = (hash) => hash.replace(/[#&]segment=[^&]*/, "").replace(/^[#&]/, "");

  // Note the state in the address: a step of the history, but not for each segment or letter.
  function note(typing = false) {
    const next = address();
    if (next === window.location.hash) return;
    const step = without(next) !== without(window.location.hash) && !(typing && typed) && window.location.hash;
    window.history[step ? "pushState" : "replaceState"](null, "", next);
    typed = typing;
  }

  // Take the state from the address; return its segment or -1.
  function restore() {
    const words = new URLSearchParams(window.location.hash.slice(1));
    for (const name of names) put(name, words.get(name) ?? first[name] ?? "");
    return s.byId.get(words.get("segment")) ?? -1;
  }

  function set(fields) {
    for (const [name, value] of Object.entries(fields)) put(name, value);
    epic.page.draw();
    note();
  }

  document.addEventListener("input", ({ target }) => {
    if (target.form !== form || !target.name) return;
    epic.page.draw();
    note(target.name === "text");
  });
  form.addEventListener("submit", (event) => event.preventDefault());

  return {
    fields: form.elements, values, note, restore, set,
    filters: () => moved().filter(([name]) => isFilter(name)),
    clear: () => set(Object.fromEntries([...names].filter(isFilter).map((name) => [name, first[name] ?? ""]))),
  };
})();
