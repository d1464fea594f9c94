"""`epic100 score FILE`: the official accuracies of a file of scores, without a run."""

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import Any

from epic100.data.official_lists import find_lists
from epic100.scoring.metrics import TASKS, group_accuracies, percent
from epic100.scoring.outcomes import LabelTable, read_labels
from epic100.scoring.val_scores import ACTION_HEAD, read_correct
from epic100.settings.config import layered_settings


def run(options: argparse.Namespace) -> int:
    """Print the accuracies of a file of scores, as a table or as JSON, and return 0."""
    labels, arguments = labels_and_arguments(options)
    correct = read_correct(options.file, labels, **arguments)
    metrics = group_accuracies(correct, labels.members)
    if ACTION_HEAD in correct:
        metrics[ACTION_HEAD] = percent(correct[ACTION_HEAD])
    if options.json:
        head = {"file": str(options.file), "segments": len(labels.ids)}
        print(json.dumps(head | metrics, indent=2))
    else:
        print(f"{options.file}: {len(labels.ids)} segments of val, percent")
        print(*_table(metrics), sep="\n")
    return 0


def labels_and_arguments(options: argparse.Namespace) -> tuple[LabelTable, dict[str, Any]]:
    """Read the labels of val, and collect the keyword arguments of `read_correct`.

    Args:
        options: The options of a command: `annotations`, `configfile` and `directory`.

    Returns:
        The labels of the official CSV; or of the run's own list of segments, if the run uses a
        subset of the CSV. Then the keyword arguments.
    """
    config = layered_settings(options.configfile, options.directory)
    annotations, folder = config.annotations, options.directory
    val = folder / annotations.val
    train = folder / annotations.train
    if options.annotations:
        # The train CSV is expected in the folder of the CSV that the option names.
        val = options.annotations
        train = val.with_name(train.name)
    elif config.videos.subset:
        # A run on a subset of the CSV has its segments in a list.
        val = folder / "results/segments/val.txt"
    # A key without a path stays None, and `find_lists` then searches the folder of the train CSV.
    lists = {
        key: str(folder / path) if path else None
        for key, path in config.evaluate.model_dump().items()
    }
    labels = read_labels(val, find_lists(train, lists))
    sizes = (config.classes.verbs, config.classes.nouns)
    return labels, {"reduce": config.export.reduce, "sizes": sizes, "train": train}


def _table(metrics: Mapping[str, float | None]) -> Iterator[str]:
    """Yield the lines of a table: a row for each group of segments, a column for each task."""
    yield f"{'':16}" + "".join(f"{task:>8}" for task in TASKS)
    for group, k in (("overall", 1), ("overall", 5), ("unseen", 1), ("tail", 1)):
        row = [metrics[f"{group}_{task}_accuracy_at_{k}"] for task in TASKS]
        yield f"{group:10}top-{k} " + "".join(f"{_cell(value):>8}" for value in row)
    if ACTION_HEAD in metrics:
        yield f"by the model's own scores of actions, top-1: {_cell(metrics[ACTION_HEAD])}"


def _cell(accuracy: float | None) -> str:
    """Write an accuracy with two decimals, or `-` if there is none."""
    return "-" if accuracy is None else f"{accuracy:.2f}"
