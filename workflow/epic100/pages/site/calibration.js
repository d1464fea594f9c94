// How often a run is right where it is so sure: a bar a tenth, which lists its segments. Shift lists
// those of all bars from the last one.

epic.calibration = (() => {
  const { at, segments: s, runs, make, percent, thousands, statistics, form } = epic;
  const BINS = 10;
  const element = at("bins");
  let from = null; // the bin of the last choice without Shift

  function count(shown, run, task) {
    const sums = statistics.tally(shown, run, task, (i) => Math.min(BINS - 1, Math.floor(run.sure[task][i] * BINS)));
    return Array.from({ length: BINS }, (_, place) => sums.get(place) ?? statistics.NONE);
  }

  function choose(one, other) {
    const [low, high] = [Math.min(one, other), Math.max(one, other) + 1];
    form.set({ sure: `${form.fields.measure.value}:${(100 * low) / BINS}:${(100 * high) / BINS}`, tab: "segments" });
  }

  function bar(bin, run) {
    const share = (part) => `${(100 * part) / (bin.number || 1)}%`;
    return make("span", { className: `bin-bar ${run.letter} ${bin.number ? "" : "none"}`,
      style: `--right: ${share(bin.right)}; --sure: ${share(bin.sure)}` });
  }
  const short = new Intl.NumberFormat("en", { notation: "compact" }).format; // where there is no room for more
  // No text of the button, since its label says more.
  const number = (bin) => make("span", { className: "bin-number", style: `--number: "${(bin.number < 1e4 ? thousands : short)(bin.number)}"` });

  function draw(shown) {
    const task = form.fields.measure.value;
    const counts = runs.map((run) => count(shown, run, task));
    element.replaceChildren(...Array.from({ length: BINS }, (_, place) => {
      const range = `${(100 * place) / BINS}–${(100 * (place + 1)) / BINS} %`;
      const words = runs.map((run, at) => {
        const { number, right } = counts[at][place];
        return `${epic.two ? `${run.letter}: ` : ""}${thousands(number)} segments${number ? `, ${percent(right / number)} right` : ""}`;
      });
      return make("button", { type: "button", className: "bin", title: `${range} sure\n${words.join("\n")}`, ariaLabel: `${range} sure; ${words.join("; ")}`,
        onclick(event) {
          if (!event.shiftKey || from === null) from = place;
          choose(from, place);
        } },
      ...counts.map((bins) => number(bins[place])),
      make("span", { className: "bin-bars" }, ...runs.map((run, at) => bar(counts[at][place], run))));
    }));
    at("gap").replaceChildren(...runs.map((run, at) => {
      const all = counts[at].reduce((sum, bin) => sum + bin.number, 0);
      const gap = counts[at].reduce((sum, bin) => sum + Math.abs(bin.right - bin.sure), 0);
      return make("span", {}, `${epic.two ? `${run.letter}, ${run.name}: ` : ""}${all ? percent(gap / all) : "–"}. `);
    }));
  }

  const spans = (texts) => texts.map((text) => make("span", {}, text));
  at("sure-scale").append(...spans(Array.from({ length: BINS + 1 }, (_, edge) => String((100 * edge) / BINS))));
  at("scale").append(...spans(runs.map((run) => (epic.two ? `${run.letter}, segments` : "segments"))),
    make("div", {}, ...spans(["100 % right", "75 %", "50 %", "25 %", "0 %"])));

  return { draw };
})();
