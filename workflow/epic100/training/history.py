"""results/training.tsv: one row an epoch, read off MMEngine's own JSON logs when training ends."""

import csv
import json
import os
from pathlib import Path

from epic100.atomic import atomic_path

ACCURACIES = {
    f"{task}_top{k}": f"epic/overall_{task}_accuracy_at_{k}"
    for task in ("verb", "noun", "action")
    for k in (1, 5)
}
COLUMNS = ("epoch", "iter", "lr", "loss", *ACCURACIES, "samples_per_s", "data_share", "seconds")


def write_history(work_dir: str | os.PathLike, out: str | os.PathLike, batch_size: int) -> None:
    """Write the history of all runs logged in `work_dir`; where two have an epoch, the later's.

    `lr` and `loss` as last logged in the epoch, accuracies in percent, empty in epochs without
    validation; `seconds` of the epoch's iterations, `data_share` of them (0 to 1) spent waiting for
    data. MMEngine logs means over a window of iterations, so the last three are near the truth.
    """
    rows: dict[int, dict] = {}
    for path in sorted(Path(work_dir).glob("*/vis_data/scalars.json")):
        found: dict[int, list[dict]] = {}
        accuracies: dict[int, dict] = {}
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            if "loss" in record:
                found.setdefault(record["epoch"], []).append(record)
            else:
                accuracies[record["step"]] = {
                    name: f"{record[key]:.2f}" for name, key in ACCURACIES.items() if key in record
                }
        for epoch, records in found.items():
            rows[epoch] = _row(epoch, records, batch_size) | accuracies.get(epoch, {})
    with atomic_path(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[epoch] for epoch in sorted(rows))


def _row(epoch: int, records: list[dict], batch_size: int) -> dict:
    last = records[-1]
    time, data = (sum(r[name] for r in records) / len(records) for name in ("time", "data_time"))
    return {
        "epoch": epoch,
        "iter": last["iter"],
        "lr": f"{last['lr']:.6g}",
        "loss": f"{last['loss']:.5g}",
        "samples_per_s": f"{batch_size / time:.4g}",
        "data_share": f"{data / time:.3f}",
        "seconds": f"{time * last['iter'] / epoch:.1f}",
    }
