"""`epic100 score`, `compare` and `submission check`: what files of scores are worth."""

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from epic100.base.errors import EpicError
from epic100.cli.where import reject_other_folder
from epic100.data.official_lists import find_lists
from epic100.pages.bootstrap import RESAMPLES, Counts, Mask, by_video, difference, draw_videos
from epic100.scoring.metrics import TASKS, group_accuracies, percent, wilson
from epic100.scoring.outcomes import ACTION_HEAD, PREDICTED, LabelTable, read_correct, read_labels
from epic100.scoring.submission import HINT, MAX_PRIOR_SHARE, check, prior_problems
from epic100.scoring.submission_file import existing_file, expected_ids, read_submission
from epic100.settings.config import Settings, layered_settings
from epic100.settings.data import Classes


def score(options: argparse.Namespace) -> int:
    """Print the official accuracies of a file of scores, as a table or as JSON, and return 0."""
    labels, arguments = _labels_and_arguments(options)
    correct = read_correct(options.file, labels, **arguments)
    metrics = group_accuracies(correct, labels.members)
    if ACTION_HEAD in correct:
        metrics[ACTION_HEAD] = percent(correct[ACTION_HEAD])
    if options.json:
        head = {"file": str(options.file), "segments": len(labels.ids)}
        print(json.dumps(head | metrics, indent=2))
        return 0

    # The table. A column of numbers is 8 wide, and the names of the rows take 16.
    print(f"{options.file}: {len(labels.ids)} segments of val, percent")
    cells = {key: "-" if value is None else f"{value:.2f}" for key, value in metrics.items()}
    print(f"{'':16}" + "".join(f"{task:>8}" for task in TASKS))
    for group, k in (("overall", 1), ("overall", 5), ("unseen", 1), ("tail", 1)):
        row = f"{group:10}top-{k} "
        for task in TASKS:
            row += f"{cells[f'{group}_{task}_accuracy_at_{k}']:>8}"
        print(row)
    if ACTION_HEAD in cells:
        print(f"by the model's own scores of actions, top-1: {cells[ACTION_HEAD]}")
    return 0


def compare(options: argparse.Namespace) -> int:
    """Say whether one model is better than another, and how sure that is; return 0.

    The models are files that `score` takes, from anywhere, or folders of runs, such as results and
    results/runs/NAME. The numbers are those of results/compare.html. If a model has no prediction
    of some segments, the group `readable` is added: the segments that both models predict.
    """
    files = []
    for path in (options.first, options.second):
        files.append(existing_file(path / "predictions/val.pt" if path.is_dir() else path))
    if files[0].samefile(files[1]):
        raise EpicError(f"{files[0]} and {files[1]}: are one file; expected those of two runs")
    labels, arguments = _labels_and_arguments(options)
    first, second = (read_correct(file, labels, **arguments) for file in files)
    print(
        f"A: {options.first}\nB: {options.second}\n"
        f"{len(labels.ids)} segments of {labels.video_count} videos. Top-1 in percent with 95 % "
        "intervals over segments (Wilson);\nB - A in percentage points, with that of a paired "
        f"bootstrap over videos ({RESAMPLES} resamples)."
    )
    # A file that does not tell predictions from the training prior counts as one of predictions.
    all_segments = np.ones(len(labels.ids), dtype=bool)
    both_predict = first.get(PREDICTED, all_segments) & second.get(PREDICTED, all_segments)
    groups = dict(labels.members)
    if not both_predict.all():
        groups["readable"] = dict.fromkeys(TASKS, both_predict)
    drawn = draw_videos(labels.video_count, options.seed)
    for group, members in groups.items():
        _print_group(group, members, first, second, labels.videos, drawn)
    return 0


def _print_group(
    group: str,
    members: Mapping[str, Mask],
    first: Mapping[str, Mask],
    second: Mapping[str, Mask],
    videos: Counts,
    drawn: Counts,
) -> None:
    """Print a group of segments: a row for A, B and their difference.

    Args:
        group: Name of the group.
        members: By task, which segments are in the group.
        first: Which segments A has right, by `{task}_at_1`.
        second: The same of B.
        videos: Number of each segment's video.
        drawn: The result of `draw_videos`.
    """
    # The cells of each row, by the name of the row. A column is of a task.
    rows: dict[str, list[str]] = {group: [*TASKS], "segments": [], "A": [], "B": [], "B - A": []}
    for task in TASKS:
        is_member = members[task]
        right_of_a = first[f"{task}_at_1"] & is_member
        right_of_b = second[f"{task}_at_1"] & is_member
        rows["segments"].append(str(is_member.sum()))
        rows["A"].append(_accuracy(right_of_a.sum(), is_member.sum()))
        rows["B"].append(_accuracy(right_of_b.sum(), is_member.sum()))
        change = difference(
            by_video(right_of_a, videos),
            by_video(right_of_b, videos),
            by_video(is_member, videos),
            drawn,
        )
        cell = "-"
        if change:
            cell = f"{change.points:+.2f}"
            if change.interval:
                low, high = change.interval
                cell += f" ({low:+.2f} to {high:+.2f})"
        rows["B - A"].append(cell)

    print()
    for name, cells in rows.items():
        print((f"{name:<10}" + "".join(f"{cell:<28}" for cell in cells)).rstrip())


def _accuracy(right: int, segments: int) -> str:
    """Write an accuracy in percent with its interval; `-` for no segment."""
    if not segments:
        return "-"
    accuracy = 100 * right / segments
    low, high = wilson(accuracy, segments)
    return f"{accuracy:.2f} ({low:.2f} to {high:.2f})"


def _labels_and_arguments(options: argparse.Namespace) -> tuple[LabelTable, dict[str, Any]]:
    """Read the labels of val, and collect the keyword arguments of `read_correct`.

    Args:
        options: The options of a command: `annotations`, `configfile` and `directory`.

    Returns:
        The labels of the official CSV; or of the run's own list of segments, if the run uses a
        subset of the CSV. Then the keyword arguments.
    """
    config = layered_settings(options.configfile, options.directory)
    folder = options.directory
    # The files with the segments of val and of train.
    val, train = folder / config.annotations.val, folder / config.annotations.train
    if options.annotations:
        # The train CSV is expected in the folder of the CSV that the option names.
        val, train = options.annotations, options.annotations.with_name(train.name)
    else:
        reject_other_folder(config, options)
        # A run on a subset of the CSV has its segments in a list.
        if config.videos.subset:
            val = folder / "results/segments/val.txt"

    # The official lists. Those that the config does not name are in the folder of the train CSV.
    named = config.evaluate.model_dump(exclude_none=True)
    lists = find_lists(train, {key: str(folder / path) for key, path in named.items()})
    sizes = (config.classes.verbs, config.classes.nouns)
    arguments = {"reduce": config.export.reduce, "sizes": sizes, "train": train}
    return read_labels(val, lists), arguments


def check_submission(options: argparse.Namespace) -> int:
    """Check a submission before it is sent, and print a line for each problem.

    Returns:
        The exit status: 1 if there is a problem that is more than a hint, else 0.
    """
    config = None
    if options.split:
        config = layered_settings(options.configfile, options.directory)
        reject_other_folder(config, options)
    try:
        lines = _problems(options, config)
    except EpicError as error:
        lines = str(error).splitlines()
    for line in lines:
        print(line)

    # The last line goes to stderr, so that stdout has the problems alone.
    count = sum(not line.startswith(HINT) for line in lines)
    verdict = {0: "ok", 1: "1 problem"}.get(count, f"{count} problems")
    if options.file.is_file():
        verdict += f" ({options.file.stat().st_size / 2**20:.1f} MiB)"
    print(f"{options.file}: {verdict}", file=sys.stderr)
    return 1 if count else 0


def _problems(options: argparse.Namespace, config: Settings | None) -> list[str]:
    """List the problems of a submission, then the hints.

    One line tells how many segments have the training prior in place of a prediction.

    Args:
        options: The options of the command. `--num-verbs` and `--num-nouns` win over the config.
        config: The config, which names the CSV of the option `--split`; None without this option.
    """
    entries = read_submission(options.file)
    annotations, classes = options.annotations, Classes()
    if config:
        classes = config.classes
        path = getattr(config.annotations, options.split)
        if path is None:
            raise EpicError(
                f"the config has no `annotations: {options.split}:`; name the CSV there"
            )
        annotations = options.directory / path
    num_verbs, num_nouns = options.num_verbs or classes.verbs, options.num_nouns or classes.nouns
    lines = check(entries, expected_ids(annotations), num_verbs, num_nouns)
    # The reasons come from the run in --directory, and are known only for a named split.
    dropped = options.directory / "results/clean/dropped.tsv"
    max_share = MAX_PRIOR_SHARE if options.allow_prior is None else options.allow_prior
    lines += prior_problems(entries, dropped, options.split or "", max_share)
    # False comes before True, so the hints, which are no problems, are last.
    return sorted(lines, key=lambda line: line.startswith(HINT))
