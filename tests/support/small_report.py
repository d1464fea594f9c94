"""A report of small, made-up results. No test is here."""

import functools
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from epic100.base.text_table import write_frame
from epic100.data.official_lists import ClassNames
from epic100.pages.examples import by_class
from epic100.pages.figure_style import drawing
from epic100.pages.report import write_page
from epic100.scoring.epoch_table import read_epochs
from epic100.scoring.evaluation import evaluate
from epic100.scoring.outcomes import outcomes, read_labels
from support.made_up import PAIRS, ROWS, make_predictions, write_history

NAMES = ("lengths", "archive", "close_up")


@functools.cache
def results() -> tuple[dict, pd.DataFrame]:
    """Return the metrics of made-up predictions, and their outcomes."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        predictions = make_predictions(folder)
        files = (folder / "val.pt", folder / "val.txt", folder / "metrics.json")
        metrics = evaluate(*files, lists={}, reduce="max")
        return metrics, outcomes(predictions, read_labels(folder / "val.txt", {}), "max")


def make_report(folder: Path, text: str = "a text", **metrics: object) -> str:
    """Write a report and return its HTML.

    Args:
        folder: The folder of the results and of the report.
        text: It stands in all places where a run has text: class names, reasons, problems, titles.
        metrics: They replace metrics of metrics.json.
    """
    evaluated, outcome = results()
    (folder / "val.txt").write_text("a segment\n" * 40)
    (folder / "metrics.json").write_text(json.dumps(evaluated | metrics))
    (folder / "salvage.tsv").write_text(
        "participant_id\tsegments\tkept_by_segment\tkept_by_video\tdecoder_only\tleft_out\twhy\n"
        "P00\t40\t35\t30\t7\t0\t\n"
    )
    rows = [f"s{i}\tval\tvideo missing" for i in range(35, 40)]
    rows.append(f"t0\ttrain\t{text}")
    (folder / "dropped.tsv").write_text("\n".join(["narration_id\tsplit\treason", *rows, ""]))
    (folder / "train.txt").write_text("a segment\n" * 3)
    common = {"truth_percent": 3.0, "guess_percent": 75.0, "picture": "", "problem": text}
    examples = [
        {"narration_id": text, "truth": text, "guess": text, "right": right, **common}
        for right in (True, False)
    ]
    (folder / "examples.json").write_text(json.dumps({"drawn at random": examples}))
    with drawing(folder / "figure.svg", f"title {text}", f"hint {text}", 1) as figure:
        figure.subplots().set_yticks([0], [text])
    names = ClassNames({"verb": dict.fromkeys(range(9), text)})
    write_frame(by_class(outcome, PAIRS, names), folder / "per_class.tsv", float_format="%.2f")
    write_page(
        folder / "report.html",
        metrics=evaluated | metrics,
        salvage=folder / "salvage.tsv",
        dropped=folder / "dropped.tsv",
        examples=folder / "examples.json",
        figures=dict.fromkeys(NAMES, folder / "figure.svg"),
        policy="segment",
        classes=folder / "per_class.tsv",
        about=["3 December 2026", "run default", text],
        history=read_epochs(write_history(folder, *ROWS)),
        settings={"train": {"seed": 3, "options": {"lr": text}}},
        pages={"Every segment": "browse/index.html"},
    )
    return (folder / "report.html").read_text(encoding="utf-8")
