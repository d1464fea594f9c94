// A table of any length: only the rows on the screen exist. Arrow keys move, Enter chooses, titles
// sort; position, order and choice are told to screen readers.

epic.NARROW = 430; // pixels; a table that is narrower has taller rows, of several lines

// A column: {key, title, value(row), cell(row) if it is shown otherwise, width, right, down: large
// values first, from: least pixels of the table to be shown at, narrow: only below `NARROW`}. `lines`: of a row there. `field` holds the column that it is
// sorted by, with "-" before it for large ones first. `moved(row)` and `chosen(row)` are called.
epic.makeGrid = (element, { label, columns, field, empty, moved = () => {}, chosen, lines = 1 }) => {
  const { make } = epic;
  let LINE = 32; // pixels of a row
  const head = make("div", { role: "row", className: "row head", ariaRowIndex: "1" });
  const body = make("div", { role: "rowgroup", className: "rows" });
  element.append(make("div", { role: "rowgroup", className: "heads" }, head), body);
  Object.assign(element, { role: "grid", tabIndex: 0, ariaLabel: label });
  element.classList.add("grid");
  let all = [];
  let sorted = []; // all of them, in the order of `sortedBy`
  let sortedBy = null;
  let rows = []; // those shown
  let selected = null;
  let visible = columns;
  const compare = new Intl.Collator("en", { numeric: true }).compare;
  const idOf = (row) => `${element.id}-${rows.indexOf(row)}`;

  function sort(stamp) {
    const by = `${field.value} ${stamp}`;
    if (by === sortedBy) return;
    sortedBy = by;
    const column = columns.find(({ key }) => key === field.value.replace("-", ""));
    const sign = field.value.startsWith("-") ? -1 : 1;
    sorted = all;
    if (column) {
      const values = new Map(all.map((row) => [row, column.value(row)]));
      const order = typeof values.get(all[0]) === "number" ? (a, b) => a - b : compare;
      sorted = [...all].sort((a, b) => sign * order(values.get(a), values.get(b)));
    }
    drawHead();
  }

  function title(column) {
    const { key, right } = column;
    const now = { [key]: "ascending", [`-${key}`]: "descending" }[field.value] || "none";
    const arrow = { ascending: " ↑", descending: " ↓", none: "" }[now];
    function onclick() {
      const steps = column.down ? [`-${key}`, key, ""] : [key, `-${key}`, ""];
      field.value = steps[(steps.indexOf(field.value) + 1) % 3];
      field.dispatchEvent(new Event("input", { bubbles: true }));
    }
    return make("div", { role: "columnheader", ariaSort: now, className: right ? "number" : "" },
      make("button", { type: "button", tabIndex: -1, onclick }, `${column.title}${arrow}`));
  }

  function drawHead() {
    const isNarrow = element.clientWidth < epic.NARROW;
    LINE = isNarrow ? 12 + 20 * lines : 32;
    element.style.setProperty("--row", `${LINE}px`);
    visible = columns.filter(({ from = 0, narrow = isNarrow }) => from <= element.clientWidth && narrow === isNarrow);
    element.style.setProperty("--columns", visible.map(({ width }) => width).join(" "));
    const place = [...head.children].indexOf(document.activeElement.parentElement);
    head.replaceChildren(...visible.map(title));
    head.querySelector("button").tabIndex = 0;
    head.children[place]?.firstChild.focus(); // the title that was pressed is a new one
  }

  function draw() {
    body.style.height = `${Math.max(rows.length, 1) * LINE}px`;
    const first = Math.max(0, Math.floor(element.scrollTop / LINE) - 4);
    const last = Math.min(rows.length, first + Math.ceil(element.clientHeight / LINE) + 8);
    body.replaceChildren(...rows.slice(first, last).map((row, place) => make("div", {
      role: "row", id: `${element.id}-${first + place}`, className: "row", ariaRowIndex: String(first + place + 2),
      ariaSelected: String(row === selected), style: `top: ${(first + place) * LINE}px`, onclick() { select(row); chosen(row); },
    }, ...visible.map(({ cell, value, right }) => {
      const content = (cell || value)(row);
      return make("div", { role: "gridcell", className: right ? "number" : "", title: content.title ?? content }, content);
    }))));
    if (!rows.length) body.append(make("div", { role: "row", className: "row" }, make("div", { role: "gridcell", className: "soft" }, empty)));
    const shown = rows.indexOf(selected);
    if (shown >= first && shown < last) element.setAttribute("aria-activedescendant", idOf(selected));
    else element.removeAttribute("aria-activedescendant");
  }

  // Mark a row and bring it into sight, if it is shown.
  function select(row) {
    selected = row;
    const place = rows.indexOf(row);
    if (place >= 0) {
      const room = element.clientHeight - 2 * LINE;
      const top = place * LINE;
      if (top < element.scrollTop) element.scrollTop = top;
      else if (top > element.scrollTop + room) element.scrollTop = top - room;
    }
    draw();
  }

  // The row `by` rows after the selected one; the first one if that is not shown.
  function step(by) {
    const place = rows.indexOf(selected);
    return place < 0 ? rows[0] : rows[Math.max(0, Math.min(rows.length - 1, place + by))];
  }

  element.addEventListener("keydown", (event) => {
    if (event.target !== element) return; // a title
    const page = Math.max(1, Math.floor(element.clientHeight / LINE) - 2);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key in steps && rows.length) {
      select(step(steps[event.key]));
      moved(selected);
    } else if (event.key === "Enter" && rows.includes(selected)) chosen(selected);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  epic.rove(head, "button");
  element.addEventListener("scroll", () => requestAnimationFrame(draw));
  new ResizeObserver(() => { if (element.clientWidth) { drawHead(); draw(); } }).observe(element);

  return {
    select,
    step,
    // Show those of a list for which `keep` is true. `stamp`: what else the values depend on.
    show(list, keep, stamp = "") {
      if (list !== all) [all, sortedBy] = [list, null];
      sort(stamp);
      rows = sorted.filter(keep);
      element.ariaRowCount = String(rows.length + 1);
      draw();
    },
  };
};
