// Elements, numbers as text, downloads, and what a browser keeps. It comes first, so its mode is that of
// all scripts.
"use strict";
const epic = {};

epic.at = (id) => document.getElementById(id);
// A small element: make("b", {className: "x"}, "text", another).
epic.make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};
epic.choices = (select, list) => {
  select.replaceChildren(...list.map(([value, text]) => epic.make("option", { value }, text)));
};
// A list of guesses {name, p} as bars as long as each is probable.
epic.bars = (title, list, isTruth = () => false) => epic.make("section", {}, epic.make("h3", {}, title),
  epic.make("ol", {}, ...list.map((each) => epic.make("li", { className: isTruth(each) ? "guess truth" : "guess",
    style: `--share: ${(100 * each.p).toFixed(1)}%` },
  epic.make("span", { className: "name" }, isTruth(each) ? `✓ ${each.name}` : each.name), epic.make("span", { className: "p" }, epic.percent(each.p))))));
epic.percent = (share) => `${(100 * share).toFixed(1)} %`;
epic.points = (share) => `${share < 0 ? "−" : "+"}${Math.abs(100 * share).toFixed(1)}`; // a difference of shares
epic.clock = (seconds) => {
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${(seconds - 60 * minutes).toFixed(1).padStart(4, "0")}`;
};
epic.thousands = new Intl.NumberFormat("en").format;
// Arrow keys go from one to the next of the elements that `selector` names, up and down to the nearest
// one. Only one of them is a stop of the Tab key.
epic.rove = (element, selector, reached = () => {}) => {
  element.addEventListener("keydown", (event) => {
    const all = [...element.querySelectorAll(selector)];
    const sign = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!sign || !all.includes(event.target)) return;
    const spot = (each) => {
      const { left, width, top } = each.getBoundingClientRect();
      return { x: left + width / 2, y: top };
    };
    const here = spot(event.target);
    const down = (each) => sign * (spot(each).y - here.y);
    const away = (each) => down(each) + 10 * Math.abs(spot(each).x - here.x);
    const next = /Left|Right/.test(event.key) ? all[all.indexOf(event.target) + sign]
      : all.filter((each) => down(each) > 1).sort((a, b) => away(a) - away(b))[0];
    if (!next) return;
    event.preventDefault();
    event.stopPropagation();
    [event.target.tabIndex, next.tabIndex] = [-1, 0];
    next.focus();
    reached(next);
  });
};
epic.download = (name, text) => {
  const href = URL.createObjectURL(new Blob([text], { type: "text/plain;charset=utf-8" }));
  epic.make("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 1000);
};

// What a browser keeps between visits; where it keeps nothing, for this visit.
epic.store = (() => {
  const own = new Map();
  return {
    get(key, otherwise) {
      try {
        return JSON.parse(window.localStorage.getItem(key)) ?? own.get(key) ?? otherwise;
      } catch {
        return own.get(key) ?? otherwise;
      }
    },
    // Whether it is kept.
    set(key, value) {
      own.set(key, value);
      try {
        window.localStorage.setItem(key, JSON.stringify(value));
        return true;
      } catch {
        return false;
      }
    },
  };
})();
