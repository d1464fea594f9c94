// What is said above the lists: accuracies of the filtered segments, and the choices of the views.
"use strict";

epic.summary = (() => {
  const { at, segments: s, runs, make, percent, points, thousands, statistics, form, matrix } = epic;
  let wait = 0;

  function accuracies(shown) {
    const number = shown.reduce((sum, one) => sum + one, 0);
    const all = (run, task) => statistics.tally(shown, run, task, () => "").get("") ?? statistics.NONE;
    const share = (sum) => make("b", {}, sum.number ? percent(sum.right / sum.number) : "–");
    const rows = runs.map((run) => make("span", { className: "accuracies" },
      ...(epic.two ? [make("b", {}, run.letter)] : []),
      ...["action", "verb", "noun"].map((task) => make("span", {}, `${task} `, share(all(run, task))))));
    const predicted = all(runs[0], "action").number;
    return [
      make("span", {}, make("b", {}, thousands(number)), ` of ${thousands(s.count)} segments`), ...rows,
      make("span", { className: "soft" }, predicted < number ? `right, of ${thousands(predicted)} with a prediction` : "right"),
    ];
  }

  // Its interval takes longer than all else, so it comes after the next frame.
  function differ(shown) {
    clearTimeout(wait);
    at("difference").hidden = !epic.two;
    if (!epic.two) return;
    at("difference").textContent = "B − A: …";
    wait = setTimeout(() => {
      const { number, change, interval } = statistics.difference(shown, runs);
      const sure = interval ? `${points(interval[0])} to ${points(interval[1])}` : "–: they lie in one video";
      at("difference").textContent = number
        ? `B − A: action ${points(change)} points; 95 % interval over videos ${sure}; ${thousands(number)} segments` : "B − A: –";
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
      at("summary").replaceChildren(...accuracies(shown));
      differ(shown);
      const { cell, sure } = form.values();
      at("chips").replaceChildren(...(cell ? [chip("cell", matrix.words(cell))] : []), ...(sure ? [chip("sure", SURE(sure))] : []));
      const number = form.filters().length;
      at("active").textContent = number ? `(${number} on)` : "";
    },
    about() {
      at("run").textContent += epic.two || runs[0].name !== "default" ? `, ${runs.map((run) => `run ${run.name}`).join(" and ")}` : "";
      const official = runs.map((run) => `${epic.two ? `${run.letter} ` : ""}${run.official.toFixed(1)} %`).join(", ");
      at("official").replaceChildren(
        `${official} of all val actions are right, as the leaderboard counts. `,
        ...Object.entries(s.data.pages || {}).flatMap(([name, href]) => [make("a", { href }, name), " "]),
      );
      if (!s.data.left_out) return;
      at("no-clips").textContent = `${thousands(s.data.left_out)} clips did not fit into ${s.data.max_mb} MB `
        + "(browse: max_mb: in the config). Those with a wrong guess came first, evenly over the participants.";
      at("no-clips").hidden = false;
    },
  };
})();
