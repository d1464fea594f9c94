// The page of runs: a chosen task and baseline fill its table, headline and cards anew. The interval
// is that of pages/bootstrap.py, from the same draws.
"use strict";
const at = (id) => document.getElementById(id);
const data = JSON.parse(at("data").textContent);
const drawn = Uint8Array.from(atob(data.drawn), (letter) => letter.charCodeAt(0));
const rows = data.runs.map((run, i) => document.querySelector(`tr[data-run="${i}"]`));
const curves = data.runs.map((run, i) => document.querySelectorAll(`polyline[data-run="${i}"]`));
const signed = (value) => (value < 0 ? "" : "+") + value.toFixed(2);
const span = ([low, high], write) => `${write(low)} to ${write(high)}`;

function difference(first, second, sizes) {
  const sum = (counts) => counts.reduce((all, count) => all + count, 0);
  if (!sum(sizes)) return null;
  const change = second.map((right, video) => right - first[video]);
  const points = (100 * sum(change)) / sum(sizes);
  if (sizes.filter(Boolean).length < 2) return { points, interval: null };
  const resamples = [];
  for (let start = 0; start < drawn.length; start += sizes.length) {
    let [right, size] = [0, 0];
    for (let video = 0; video < sizes.length; video++) {
      right += drawn[start + video] * change[video];
      size += drawn[start + video] * sizes[video];
    }
    if (size) resamples.push((100 * right) / size);
  }
  const sorted = Float64Array.from(resamples).sort();
  const percentile = (share) => {
    const place = share * (sorted.length - 1), below = Math.floor(place);
    const above = Math.min(below + 1, sorted.length - 1);
    return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
  };
  return { points, interval: [percentile(0.025), percentile(0.975)] };
}

function write(cell, text, small = "", name = "") {
  const below = document.createElement("small");
  below.textContent = small;
  cell.replaceChildren(`${text} `, below);
  cell.className = `n ${name}`;
}

// Which way a difference goes, if its interval excludes 0.
function direction(found) {
  if (!found?.interval || found.interval[0] * found.interval[1] <= 0) return "";
  return found.points > 0 ? "better" : "worse";
}

function fill() {
  const task = at("task").value, first = Number(at("baseline").value), base = data.runs[first];
  const score = (run) => data.runs[run].scores[`overall_${task}`]?.[0] ?? -1;
  const order = data.runs.map((run, i) => i).sort((a, b) => score(b) - score(a) || a - b);
  const changes = data.runs.map((run, i) => {
    let overall = null;
    for (const cell of rows[i].querySelectorAll("[data-group]")) {
      const group = cell.dataset.group, key = `${group}_${task}`, found = run.scores[key];
      if (found) write(cell, found[0].toFixed(2), span(found.slice(1), (end) => end.toFixed(1)));
      else write(cell, "-");
      // Which segments are readable depends on the run, so they have no difference.
      const beside = rows[i].querySelector(`[data-change=${group}]`);
      if (!beside) continue;
      const change = i === first ? null : difference(base.right[key], run.right[key], data.sizes[key]);
      if (!change) write(beside, "-");
      else write(beside, signed(change.points), change.interval ? span(change.interval, signed) : "",
        direction(change));
      if (group === "overall") overall = change;
    }
    return overall;
  });
  rows[0].parentElement.append(...order.map((i) => rows[i]));
  for (const head of document.querySelectorAll("#runs thead th")) head.ariaSort = null;
  at("overall").ariaSort = "descending";
  // The best run is held against the baseline; if that is the best, the next one is.
  const best = order[0], other = best === first ? order[1] : best;
  at("best").textContent = data.runs[best].name;
  at("accuracy").textContent = `${score(best).toFixed(2)} % of ${task}s`;
  headline(task, best, first, other, other === undefined ? null : changes[other]);
  // What is drawn last is on top.
  for (const i of [first, best]) for (const curve of curves[i]) curve.parentNode.append(curve);
  rows.forEach((row, i) => {
    for (const each of [row, ...curves[i]]) {
      each.classList.toggle("best", i === best);
      each.classList.toggle("base", i === first);
    }
  });
}

function headline(task, best, first, other, change) {
  const [winner, base] = [data.runs[best].name, data.runs[first].name];
  if (!change) {
    at("headline").textContent = `${winner} is the only run`;
    return;
  }
  const name = data.runs[other].name;
  const verdict = !change.interval ? "one video gives no interval"
    : direction(change) ? "the interval excludes 0" : "the interval includes 0: it may be chance";
  const verb = direction(change) ? "wins" : "leads";
  at("headline").textContent = best === first
    ? `${base} ${verb}: ${name}, the next, is at ${signed(change.points)} points of ${task}s; ${verdict}`
    : `${winner} ${verb}: ${signed(change.points)} points of ${task}s over ${base}; ${verdict}`;
  at("pair").textContent = `${name} minus ${base}`;
  at("points").textContent = signed(change.points);
  at("interval").textContent = change.interval ? span(change.interval, signed) : verdict;
  const settings = Object.entries(data.settings).filter(([, values]) => values[other] !== values[first]);
  at("reason").replaceChildren(...settings.map(([key, values]) => {
    const line = document.createElement("small");
    line.textContent = `${key}: ${values[other]} (${base}: ${values[first]})`;
    return line;
  }));
  if (!settings.length) at("reason").textContent = "Nothing in their configs.";
}

for (const id of ["task", "baseline"]) at(id).addEventListener("change", fill);
for (const [name, on] of [["pointerover", true], ["pointerout", false]]) {
  at("runs").addEventListener(name, (event) => {
    const row = event.target.closest("tr[data-run]");
    if (row) for (const curve of curves[row.dataset.run]) curve.classList.toggle("chosen", on);
  });
}
fill();
