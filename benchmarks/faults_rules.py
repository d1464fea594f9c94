"""The rules in which `benchmarks/faults.py` lets system calls fail, on a run of two videos."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch

from epic100.base.atomic import atomic_path
from epic100.download.verify import verify_videos, write_videos_ok
from epic100.figures.damage import plot_archive, plot_close_up, plot_dropped
from epic100.figures.data import annotated_segments, plot_classes, plot_lengths, plot_participants
from epic100.figures.examples import surest, write_examples
from epic100.figures.outcomes import by_class, outcomes
from epic100.figures.results import plot_confusion, plot_per_class
from epic100.figures.training import plot_training
from epic100.minikitchen import write_annotations, write_video
from epic100.model.model_file import digest
from epic100.proxy import ProxySettings, make_proxies
from epic100.report.summary import write_summary
from epic100.scan import scan_participant
from epic100.scoring.evaluation import evaluate
from epic100.scoring.predictions import Predictions, read_predictions, write_predictions
from epic100.segments.annotations import index_segments, load_annotations
from epic100.segments.class_names import read_class_names
from epic100.segments.clean_list import read_clean_list
from epic100.segments.cleaning import clean, join_train_and_val
from epic100.segments.pairs import read_pairs
from epic100.segments.segment_list import read_segments, write_segments
from epic100.submission.export import export
from epic100.training.epoch_table import COLUMNS, read_epochs, write_epochs
from epic100.video.scan_table import read_scan_table
from epic100.video.sheet import Video, read_sheet

VIDEOS = (
    Video("P01_01", "P01", "train", 50.0, 6.0),
    Video("P01_02", "P01", "val", 50.0, 6.0),
)
CSVS = {"train": "EPIC_100_train.csv", "val": "EPIC_100_validation.csv"}
CLASSES = {"verbs": 97, "nouns": 300}


def annotate(folder: Path) -> None:
    """Official CSV -> segment list."""
    by_id = {video.video_id: video for video in VIDEOS}
    for split, path in _csvs(folder).items():
        table = load_annotations(path, by_id, split=split, classes=CLASSES)
        write_segments(index_segments(table, by_id), folder / f"results/segments/{split}.txt")


def verify(folder: Path) -> None:
    """Videos and their md5s -> table and `videos.ok`."""
    results = folder / "results"
    table = results / "verify/P01.tsv"
    verify_videos(read_sheet(folder / "sheet.tsv"), folder / "videos", table, results / "receipts")
    write_videos_ok([str(table)], results / "videos.ok")


def scan(folder: Path) -> None:
    """Videos -> scan table and frame indexes."""
    table = folder / "results/scan/P01.tsv"
    scan_participant(VIDEOS, folder / "videos", table, table.with_suffix(".index.npz"))


def clean_lists(folder: Path) -> None:
    """Segment lists and scan table -> clean lists."""
    results = folder / "results"
    clean(
        {video.video_id: video for video in VIDEOS},
        annotations=_csvs(folder),
        segments={split: str(results / f"segments/{split}.txt") for split in CSVS},
        scans=[str(results / "scan/P01.tsv")],
        lists={split: str(results / f"clean/{split}.txt") for split in CSVS},
        pairs=str(results / "clean/pairs.tsv"),
        dropped=str(results / "clean/dropped.tsv"),
        salvage=str(results / "clean/salvage.tsv"),
        policy="segment",
        classes=CLASSES,
    )


def trainval(folder: Path) -> None:
    """The clean lists of train and val -> one list and its pair table."""
    lists = folder / "results/clean"
    join_train_and_val(lists / "train.txt", lists / "val.txt", lists / "trainval.txt",
         str(lists / "trainval_pairs.tsv"))  # fmt: skip


def proxy(folder: Path) -> None:
    """Videos -> small copies and their indexes."""
    results = folder / "results"
    make_proxies(
        VIDEOS,
        folder / "videos",
        results / "proxies",
        scan_table=results / "scan/P01.tsv",
        scan_index=results / "scan/P01.index.npz",
        table=results / "proxies/P01.tsv",
        index=results / "proxies/P01.index.npz",
        settings=ProxySettings(height=64),
    )


def score(folder: Path) -> None:
    """Predictions -> metrics."""
    results = folder / "results"
    evaluate(
        results / "predictions/val.pt",
        results / "segments/val.txt",
        results / "metrics.json",
        lists={},
        reduce="max",
        backoff=1.0,
        clean=results / "clean/val.txt",
        model=results / "model.pth",
    )


def export_pt(folder: Path) -> None:
    """Predictions -> submission for the official tools."""
    _export(folder, "pt")


def export_zip(folder: Path) -> None:
    """Predictions -> submission for the server."""
    _export(folder, "zip")


def summary(folder: Path) -> None:
    """Salvage and metrics -> text."""
    results = folder / "results"
    write_summary(results / "clean/salvage.tsv", results / "metrics.json",
                  results / "clean/dropped.tsv", results / "summary.txt")  # fmt: skip


def figures_data(folder: Path) -> None:
    """Annotations -> pictures."""
    by_id = {video.video_id: video for video in read_sheet(folder / "sheet.tsv")}
    table = annotated_segments(_csvs(folder), by_id, classes=CLASSES)
    names = read_class_names(_csvs(folder).values())
    made = folder / "results/figures"
    plot_participants(table, by_id, made / "participants.svg")
    plot_lengths(table, names, made / "lengths.svg")
    plot_classes(table, names, made / "classes.svg")


def figures_damage(folder: Path) -> None:
    """Scan table and dropped segments -> pictures."""
    results = folder / "results"
    by_id = {video.video_id: video for video in read_sheet(folder / "sheet.tsv")}
    rows = {row.video_id: row for row in read_scan_table(results / "scan/P01.tsv")}
    table = pd.concat(
        [read_segments(results / f"segments/{split}.txt") for split in CSVS], ignore_index=True
    )
    dropped = pd.read_csv(results / "clean/dropped.tsv", sep="\t", dtype=str)
    salvage = pd.read_csv(results / "clean/salvage.tsv", sep="\t")
    plot_archive(by_id, rows, results / "figures/archive.svg")
    plot_close_up(by_id, rows, table, dropped["narration_id"], results / "figures/close_up.svg")
    plot_dropped(dropped, salvage, results / "figures/dropped.svg")


def figures_training(folder: Path) -> None:
    """History of a training -> picture."""
    plot_training(read_epochs(folder / "results/training.tsv"),
                  folder / "results/figures/training.svg")  # fmt: skip


def figures_results(folder: Path) -> None:
    """Predictions -> pictures, a table, and examples with frames."""
    results, made = folder / "results", folder / "results/figures"
    names = read_class_names(_csvs(folder).values())
    predictions = read_predictions(results / "predictions/val.pt", "val")
    outcome = outcomes(predictions, results / "segments/val.txt", "max")
    classes = by_class(outcome, predictions.pairs, names)
    with atomic_path(made / "per_class.tsv") as temporary:
        classes.to_csv(temporary, sep="\t", index=False, float_format="%.2f")
    plot_per_class(classes, made / "per_class.svg")
    plot_confusion(outcome, names, made / "confusion.svg")
    groups = {"surest": surest(outcome, right=True)}
    write_examples(groups, results / "clean/val.txt", folder / "videos", results / "scan", names,
                   made / "examples")  # fmt: skip


# In an order in which each has its inputs.
RULES: dict[str, Callable[[Path], None]] = {
    "annotate": annotate,
    "verify": verify,
    "scan": scan,
    "clean": clean_lists,
    "trainval": trainval,
    "proxy": proxy,
    "evaluate": score,
    "export_pt": export_pt,
    "export_zip": export_zip,
    "summary": summary,
    "figures_data": figures_data,
    "figures_damage": figures_damage,
    "figures_training": figures_training,
    "figures_results": figures_results,
}


def inputs(folder: Path) -> None:
    """Write what a run is given: videos, sheet, annotations, and the history of a training."""
    write_annotations(VIDEOS, folder / "annotations", seed=1)
    lines = ["video_id\tparticipant_id\tsplit\tfps\tduration\turl\tmd5"]
    for video in VIDEOS:
        path = video.path(folder / "videos")
        write_video(video, path, seed=1)
        md5 = hashlib.md5(path.read_bytes()).hexdigest()
        lines.append(f"{video.video_id}\tP01\t{video.split}\t50.0\t6.0\t\t{md5}")
    (folder / "sheet.tsv").write_text("\n".join([*lines, ""]))
    row = dict.fromkeys(COLUMNS, 1.0)
    write_epochs([row | {"epoch": n, "iter": n} for n in (1, 2)], folder / "results/training.tsv")


def predictions(folder: Path) -> None:
    """Write predictions as a model gives them; no model is trained or run."""
    results = folder / "results"
    model = results / "model.pth"
    model.write_bytes(b"stands for a model: evaluate and export read its digest only")
    pairs = read_pairs(str(results / "clean/pairs.tsv"))
    ids = read_clean_list(results / "clean/val.txt")["narration_id"].tolist()
    generator = torch.Generator().manual_seed(0)
    log_probs = torch.randn(len(ids), len(pairs), generator=generator).log_softmax(1)
    made = Predictions("val", ids, log_probs, pairs, CLASSES["verbs"], CLASSES["nouns"],
                       {"split": "train"}, digest(model))  # fmt: skip
    write_predictions(made, results / "predictions/val.pt")


def _csvs(folder: Path) -> dict[str, str]:
    return {split: str(folder / "annotations" / name) for split, name in CSVS.items()}


def _export(folder: Path, kind: str) -> None:
    results = folder / "results"
    export(
        results / "predictions/val.pt",
        results / "segments/val.txt",
        results / f"submission.{kind}",
        split="val",
        reduce="max",
        backoff=1.0,
        sls={"pt": 2, "tl": 3, "td": 3},
        clean=results / "clean/val.txt",
        model=results / "model.pth",
    )
