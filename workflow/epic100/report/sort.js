// A click on a column's name sorts its table; numbers by value, "-" last.
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const sign = head.ariaSort === "descending" ? 1 : -1;
      const value = (row) => {
        const text = row.cells[column].textContent.trim();
        const number = parseFloat(text.replaceAll(",", ""));
        return text === "-" ? -Infinity : Number.isNaN(number) ? text : number;
      };
      const order = (a, b) => (typeof a === "string" || typeof b === "string" ? String(b).localeCompare(String(a)) : a - b);
      body.append(...[...body.rows].sort((a, b) => sign * order(value(a), value(b))));
      for (const other of table.tHead.rows[0].cells) other.ariaSort = other === head ? (sign < 0 ? "descending" : "ascending") : null;
    });
  });
}
