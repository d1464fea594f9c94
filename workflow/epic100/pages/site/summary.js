// What is said above the lists: accuracies of the filtered segments, and the choices of the views.

epic.summary = (() => {
  const { at, segments: s, runs, make, percent, points, thousands, statistics, form, confusion } = epic;
  let wait = 0;

  // Title and line count the same segments: those shown that have a prediction.
  function accuracies(shown) {
    const [action, verb, noun] = ["action", "verb", "noun"].map((task) => runs.map((run) => (
      statistics.tally(shown, run, task, () => "").get("") ?? statistics.NONE)));
    const shares = (sums) => sums.map(({ right, number }, place) => (
      `${epic.two ? `${runs[place].letter} ` : ""}${number ? percent(right / number).replace(" ", "\u00a0") : "–"}`)).join(", ");
    const predicted = [...new Set(action.map(({ number }) => number))].map(thousands).join(" and ");
    at("title").textContent = `${shares(action)} of ${predicted} actions are right`;
    at("summary").replaceChildren(make("b", {}, thousands(shown.reduce((sum, one) => sum + one, 0))),
      ` of ${thousands(s.count)} segments shown, ${predicted} with a prediction. Verbs: ${shares(verb)}. Nouns: ${shares(noun)}.`);
  }

  // What is most often wrong among those shown; a click lists the segments.
  function mistakes(shown) {
    const run = epic.run();
    const cells = ["verb", "noun"].flatMap((task) => [...statistics.tally(shown, run, task,
      (i) => (run.right[task][i] ? "" : `${task}:${s.columns[task][i]}:${run.guess(i, task)}`))]);
    const worst = cells.filter(([cell]) => cell).sort((a, b) => b[1].number - a[1].number).slice(0, 5);
    return worst.map(([cell, { number }]) => make("button", { type: "button",
      onclick: () => form.set({ cell, tab: "segments" }) }, `${number} × ${confusion.words(cell)}`));
  }

  // They take longer than all else, so they come after the next frame.
  function later(shown) {
    clearTimeout(wait);
    at("difference").hidden = !epic.two;
    if (epic.two) at("difference").textContent = "B − A: …";
    wait = setTimeout(() => {
      at("mistakes").replaceChildren("Most often wrong: ", ...mistakes(shown));
      if (!epic.two) return;
      const { number, change, interval } = statistics.difference(shown, runs);
      const sure = interval ? `${points(interval[0])} to ${points(interval[1])}` : "–: they lie in one video";
      at("difference").textContent = number
        ? `B − A: ${points(change)} points of the ${thousands(number)} shown that both predict; 95 % interval over videos ${sure}` : "B − A: –";
    }, 60);
  }

  const SURE = (text) => {
    const [task, from, to] = text.split(":");
    return `${task}: ${from} to ${to} % sure`;
  };
  const chip = (name, text) => make("span", { className: "chip" }, text, " ",
    make("button", { type: "button", title: "remove", ariaLabel: `remove ${text}`, onclick: () => form.set({ [name]: "" }) }, "×"));

  return {
    draw(shown) {
      accuracies(shown);
      later(shown);
      const { cell, sure } = form.values();
      at("chips").replaceChildren(...(cell ? [chip("cell", confusion.words(cell))] : []), ...(sure ? [chip("sure", SURE(sure))] : []));
      const number = form.filters().length;
      at("active").textContent = number ? `(${number} on)` : "";
    },
    about() {
      const { data, license } = s.data;
      at("license").textContent = license && `Clips and annotations: ${data}, ${license}.`;
      document.title = `${data}: what the model sees`;
      at("run").textContent = `Action recognition on ${data}`;
      at("run").textContent += epic.two || runs[0].name !== "default" ? `, ${runs.map((run) => `run ${run.name}`).join(" and ")}` : "";
      const official = runs.map((run) => `${epic.two ? `${run.letter} ` : ""}${run.official.toFixed(1)}\u00a0%`).join(", ");
      const all = epic.two ? `, B − A ${points((runs[1].official - runs[0].official) / 100)}` : "";
      at("official").replaceChildren(
        `All of val as the leaderboard counts, with the training prior where there is no prediction: ${official}${all}. `,
        ...Object.entries(s.data.pages || {}).flatMap(([name, href]) => [make("a", { href }, name), " "]),
      );
      if (!s.data.left_out) return;
      at("no-clips").textContent = `${thousands(s.data.left_out)} clips did not fit into ${s.data.max_mb} MB `
        + "(browse: max_mb: in the config). Those with a wrong guess came first, evenly over the participants.";
      at("no-clips").hidden = false;
    },
  };
})();
