// A click on a column's name sorts its table; numbers by value, "-" last.
"use strict";
for (const head of document.querySelectorAll("table.sortable thead th")) {
  const button = document.createElement("button");
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    const body = head.closest("table").tBodies[0];
    const sign = head.ariaSort === "descending" ? 1 : -1;
    const text = (row) => row.cells[head.cellIndex].textContent.trim();
    const number = (row) => (text(row) === "-" ? -Infinity : parseFloat(text(row).replaceAll(",", "")));
    const order = (a, b) => number(a) - number(b) || -text(b).localeCompare(text(a)) || 0;
    body.append(...[...body.rows].sort((a, b) => sign * order(a, b)));
    for (const other of head.parentElement.cells) other.ariaSort = null;
    head.ariaSort = sign < 0 ? "descending" : "ascending";
  });
}
