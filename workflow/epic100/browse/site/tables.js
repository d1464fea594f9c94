// The table of segments and the table of videos (Tabulator; only the rows on the screen exist).
"use strict";

epic.tables = (() => {
  const { segments: s, make, clock, percent } = epic;
  let shown = null;

  const common = {
    index: "i", layout: "fitColumns", height: "100%", selectableRows: 1, responsiveLayout: "hide",
    columnDefaults: { headerSortTristate: true, resizable: false, tooltip: false },
    selectableRowsPersistence: true,
  };
  const marked = (cell) => {
    const { i } = cell.getData();
    return make("span", { className: s.tone(i), title: { right: "right", wrong: "wrong", soft: "no prediction" }[s.tone(i)] }, s.mark(i));
  };
  const guessed = (cell) => {
    const { i } = cell.getData();
    if (s.predicted(i)) return make("span", { className: s.tone(i) }, cell.getValue());
    return make("span", { className: "soft" }, s.reason(i) ? `dropped: ${s.reason(i).kind}` : "–");
  };

  function segmentRows() {
    return s.ofVideo.flat().map((i) => ({
      i, id: s.columns.id[i], truth: s.truth(i), guess: s.predicted(i) ? s.guessed(i) : "",
      mark: s.mark(i), p: s.certainty(i), seconds: s.columns.stop[i] - s.columns.start[i],
    }));
  }

  // `select(i)` is called for the segment that was chosen.
  function makeSegments(element, select) {
    const table = new Tabulator(element, {
      ...common,
      data: segmentRows(),
      placeholder: "No segment: loosen the filters.",
      columns: [
        { title: "", field: "mark", width: 30, formatter: marked, hozAlign: "center", headerSort: false, responsive: 0 },
        { title: "segment", field: "id", width: 112, responsive: 0,
          sorter: (a, b) => a.localeCompare(b, "en", { numeric: true }) },
        { title: "truth", field: "truth", minWidth: 90, widthGrow: 3, responsive: 0 },
        { title: "guess", field: "guess", minWidth: 90, widthGrow: 3, formatter: guessed, responsive: 1 },
        { title: "sure", field: "p", width: 74, hozAlign: "right", headerHozAlign: "right", responsive: 2,
          headerSortStartingDir: "desc", formatter: (cell) => (cell.getValue() < 0 ? "" : percent(cell.getValue())) },
        { title: "s", field: "seconds", width: 58, hozAlign: "right", headerHozAlign: "right", responsive: 3,
          formatter: (cell) => cell.getValue().toFixed(1) },
      ],
    });
    table.on("rowClick", (_, row) => select(row.getData().i));
    const built = new Promise((done) => { table.on("tableBuilt", done); });
    return {
      table,
      built,
      filter(now) {
        shown = now;
        table.setFilter((row) => shown[row.i] === 1);
      },
      // The row of a segment is marked, and scrolled to if it is among those shown.
      mark(i) {
        table.deselectRow();
        if (!shown[i]) return;
        table.selectRow(i);
        table.scrollToRow(i, "nearest", false).catch(() => {});
      },
      // The segment `step` rows after `i` in the order shown; the first one if `i` is not shown.
      step(i, step) {
        const order = table.getRows("active").map((row) => row.getData().i);
        const place = order.indexOf(i);
        return place < 0 ? order[0] : order[place + step];
      },
    };
  }

  function videoRows() {
    return s.videos.id.map((id, i) => {
      const own = s.ofVideo[i].filter(s.predicted);
      const damaged = s.videos.damaged[i].reduce((sum, [start, stop]) => sum + stop - start, 0);
      return {
        i, id, seconds: s.videos.seconds[i], segments: s.ofVideo[i].length,
        right: own.length ? own.filter(s.bothRight).length / own.length : -1,
        damaged, state: s.videos.state[i], why: s.videos.why[i],
      };
    });
  }

  function makeVideos(element, select) {
    const table = new Tabulator(element, {
      ...common,
      data: videoRows(),
      columns: [
        { title: "video", field: "id", minWidth: 80, widthGrow: 2, responsive: 0,
          sorter: (a, b) => a.localeCompare(b, "en", { numeric: true }) },
        { title: "length", field: "seconds", minWidth: 70, hozAlign: "right", headerHozAlign: "right", responsive: 1,
          formatter: (cell) => clock(cell.getValue()) },
        { title: "segments", field: "segments", minWidth: 84, hozAlign: "right", headerHozAlign: "right", responsive: 2 },
        { title: "right", field: "right", minWidth: 76, hozAlign: "right", headerHozAlign: "right", responsive: 0,
          formatter: (cell) => (cell.getValue() < 0 ? "–" : percent(cell.getValue())) },
        { title: "damage", field: "damaged", minWidth: 90, widthGrow: 2, responsive: 0,
          formatter: (cell) => {
            const { state, why, damaged } = cell.getData();
            const text = state === "damaged" ? `${damaged.toFixed(1)} s` : state === "ok" ? "" : state;
            return make("span", { title: why }, text);
          } },
      ],
    });
    table.on("rowClick", (_, row) => select(row.getData().i));
    return table;
  }

  return { makeSegments, makeVideos };
})();
