"""Check before the first job whether the training of a config works.

There are no clean lists yet. So the check takes a few segments of the annotations whose videos are
on disk, and the pairs of all segments. It runs as a process of its own (`before_start`).
"""

import contextlib
import json
import logging
import os
import pickle
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from epic100.base.errors import EpicError
from epic100.base.folders import make_folder
from epic100.base.gpu import Gpus, look_for_gpus
from epic100.base.own_modules import use_modules
from epic100.inputs.archive import find_archive
from epic100.inputs.before_start import StartCheckRequest
from epic100.model.model_file import test_pipeline_of
from epic100.model.views import chosen_views, cost_of_views
from epic100.segments.annotations import index_segments, load_annotations
from epic100.segments.drop_reasons import is_damage, read_drop_kinds
from epic100.segments.pairs import pair_table, pairs_path, read_pairs, write_pairs
from epic100.segments.segment_list import NO_LABEL, write_segments
from epic100.settings import Settings, TrainSettings
from epic100.training.check import check
from epic100.training.plan import Placement, choose_device, plan_run
from epic100.training.recipe import Recipe, build_config
from epic100.training.run import (
    STAMP,
    attempts,
    checkpoints,
    has_model,
    read_stamp,
    run_stamp,
    settings_in,
    stamp_name,
)
from epic100.training.table import StartTable
from epic100.video.sheet import Video, find_files

RESULTS = Path("results")
# The check reads few segments, of the smallest videos, because without an index all packets of a
# file are read.
SEGMENTS_PER_VIDEO = 2
SMALLEST_VIDEOS = 3
# The frame index of an hour of video and its copy in the scan's cache take so many bytes together.
INDEX_BYTES_PER_HOUR = 20e6
# A score is a float32 of 4 bytes. There are two splits, val and test, and the scores of each are
# written twice: in shards and in one file.
BYTES_OF_SCORE = 4 * 2 * 2


def start_check(request: StartCheckRequest) -> StartTable:
    """Try a training and a prediction on a few segments, and estimate memory, disk and time.

    Args:
        request: The training to check.

    Returns:
        A table with one row per topic, and the errors.
    """
    table = StartTable()
    try:
        config = request.settings
        archive = find_archive(config, request.folder)
        on_disk = [video for video in archive.needed if os.path.exists(archive.files[video.path()])]
        to_come = config.minikitchen or config.videos.download or not on_disk
        usable = archive.needed if to_come else on_disk
        train = _segments(config, "train", archive.videos, usable)
        val = _segments(config, "val", archive.videos, usable)
        if train is None:  # The run will make the annotations.
            train, val = _invented_segments(), None
        _try_training_and_prediction(
            request, config, train, train.head(0) if val is None else val, usable, table
        )
    except (EpicError, OSError) as error:
        table.errors.append(str(error))
    return table


def finished_runs(requests: Sequence[StartCheckRequest]) -> list[str]:
    """Name for each run the folder of its finished training, as `results/work_dirs/...`, or "".

    A training is finished if its stamp has the settings of the request and the digests of the clean
    lists that are on disk now, and its model is written.
    """
    return [_finished_run(request) for request in requests]


def _finished_run(request: StartCheckRequest) -> str:
    """Name the folder of the finished training of one run, or "" if there is none."""
    # The start check reports a config of which no training can be built. Here such a run has no
    # finished training, and the other runs still get their answers.
    with contextlib.suppress(Exception):
        config = request.settings
        use_modules(config.modules.model_dump())
        weights = request.weights.path if request.weights else None
        settings = config.train.begun_with(request.recipe, weights)
        classes = (config.classes.verbs, config.classes.nouns)
        recipe = build_config(settings, str(RESULTS), config.videos.place, None, classes)
        folder = RESULTS / "work_dirs" / stamp_name(run_stamp(recipe))
        if has_model(folder, mend=False):
            return str(folder)
    return ""


def _segments(
    config: Settings, split: str, videos: Sequence[Video], usable: Sequence[Video]
) -> pd.DataFrame | None:
    """Read the segments that cleaning will keep, as far as damage is known before the scan.

    Returns:
        None if the run will make or fetch the annotations.
    """
    path = getattr(config.annotations, split)
    if not Path(path).is_file():
        if config.minikitchen or config.annotations.download:
            return None
        raise EpicError(
            f"{path}: no such file; expected the annotations of {split}: put them there, or set "
            "`annotations: download: true`"
        )
    by_id = {video.video_id: video for video in videos}
    table = load_annotations(path, by_id, split=split, **config.annotation_arguments)
    segments = index_segments(table, by_id)
    dropped_path = RESULTS / "clean/dropped.tsv"
    drop_kinds = read_drop_kinds(dropped_path, split) if dropped_path.is_file() else {}
    lost_ids = [narration_id for narration_id, reason in drop_kinds.items() if is_damage(reason)]
    is_usable = segments["path"].isin([video.path().as_posix() for video in usable])
    return segments[is_usable & ~segments["narration_id"].isin(lost_ids)].reset_index(drop=True)


def _invented_segments() -> pd.DataFrame:
    """Invent segments of a video that no archive has, with a verb, nouns and 100 frames each."""
    rows = [
        ("P00/P00_00.MP4", 0, 100, 0, noun, f"P00_00_{noun}") for noun in range(SEGMENTS_PER_VIDEO)
    ]
    return pd.DataFrame(rows, columns=["path", "start", "stop", "verb", "noun", "narration_id"])


def _try_training_and_prediction(
    request: StartCheckRequest,
    config: Settings,
    train: pd.DataFrame,
    val: pd.DataFrame,
    usable: Sequence[Video],
    table: StartTable,
) -> None:
    """Try a training and a prediction on lists of a few segments, and add rows to the table.

    Args:
        request: The training to check.
        config: Its config.
        train: The segments of train.
        val: The segments of val; no rows if the run makes the annotations.
        usable: The videos that the run can read.
        table: The table to fill.
    """
    modules = use_modules(config.modules.model_dump())
    weights = request.weights
    to_fetch = weights.source if weights and weights.needs_download else ""
    start_file = weights.path if weights and not to_fetch else None
    settings = config.train.begun_with(request.recipe, start_file)
    placement, remote_device = _place(settings, remote=request.remote)
    to_train_on = train if settings.split == "train" else pd.concat([train, val], ignore_index=True)
    if not (to_train_on["verb"] != NO_LABEL).any():
        raise EpicError(
            "no segment with a verb and a noun to train on; expected EPIC_100_train.csv; check "
            "`annotations: train:`, `videos: root:` and `participants:`"
        )
    classes, root = (config.classes.verbs, config.classes.nouns), config.videos.place
    make_folder(RESULTS)
    with tempfile.TemporaryDirectory(prefix=".start_check_", dir=RESULTS) as folder:
        _write_trial_lists(folder, settings.split, to_train_on, val, root)
        pairs = read_pairs(pairs_path(folder, settings.split))
        # Only a GPU can compile or synchronise BatchNorm, so a job with a GPU tries this itself.
        if remote_device == "cuda":
            bn = "local" if settings.bn == "sync" else settings.bn
            settings = settings.model_copy(update={"compile": False, "bn": bn})
        recipe = build_config(settings, folder, root, str(RESULTS / "scan"), classes)
        # The recipe keeps the precision, which the table reports. But a plan for this CPU would
        # refuse bf16 or fp16 in the settings, and without a precision there it computes in fp32.
        if remote_device == "cuda":
            settings = settings.model_copy(update={"precision": None})
        plan = plan_run(recipe, settings, placement, work_dir=Path(folder) / "run")
        # The plan has read the few segments of the trial. The table reports on all of val.
        if plan.val is not None:
            plan = replace(plan, val=val)
        Path(plan.config.work_dir).mkdir()
        views = chosen_views(
            test_pipeline_of(recipe, settings.config), config.predict.clips, config.predict.crops
        )
        trial_table = check(
            plan,
            to_train_on,
            pairs,
            classes,
            modules=modules,
            views=views,
            before_jobs=True,
            other_bytes=BYTES_OF_SCORE * len(pairs) * len(val) + _still_to_write(usable, recipe),
            remote_device=remote_device,
        )
    table.rows.extend(trial_table.rows)
    if to_fetch:
        table.rows.append(("weights", f"{to_fetch}: fetched by the run, then tried"))
    table.rows.append(("predict", cost_of_views(*views, len(val))))
    table.warnings.extend(trial_table.warnings)


def _place(settings: TrainSettings, *, remote: bool) -> tuple[Placement, str]:
    """Choose where the trial computes, and name the device of the training on another machine.

    Args:
        settings: The settings of the training.
        remote: Whether the training runs on another machine. Then the trial computes on the CPU.

    Returns:
        The placement of the trial; then `cuda` or `cpu`, or "" for a training on this machine.
    """
    if remote:
        placement = choose_device("cpu", settings.gpus, Gpus(0), settings.nodes)
        return placement, "cuda" if settings.gpus_to_ask else "cpu"
    return choose_device(settings.device, settings.gpus, look_for_gpus(), settings.nodes), ""


def _write_trial_lists(
    folder: str, split: str, to_train_on: pd.DataFrame, val: pd.DataFrame, root: str
) -> None:
    """Write clean lists of a few segments, and the pairs of all segments, as the rule clean does.

    Args:
        folder: Takes the place of the folder `results`.
        split: `train` or `trainval`.
        to_train_on: All segments of this split.
        val: All segments of val.
        root: The folder of the videos.
    """
    for name, segments in {split: to_train_on, "val": val}.items():
        write_segments(_few(segments, root), f"{folder}/clean/{name}.txt")
    # An empty clean list is refused if the list before cleaning has segments, so that one is left
    # empty here.
    write_segments(val.head(0), f"{folder}/segments/val.txt")
    write_pairs(pair_table(to_train_on), pairs_path(folder, split))


def _few(segments: pd.DataFrame, root: str) -> pd.DataFrame:
    """Choose segments of the smallest videos on disk, or the first ones if no video is on disk."""
    files = find_files(segments["path"].unique().tolist(), root)
    sizes = {path: file.stat().st_size for path, file in files.items() if file.is_file()}
    smallest = sorted(sizes, key=sizes.__getitem__)[:SMALLEST_VIDEOS]
    selected = segments[segments["path"].isin(smallest)].groupby("path").head(SEGMENTS_PER_VIDEO)
    return (selected if len(selected) else segments.head(SEGMENTS_PER_VIDEO)).reset_index(drop=True)


def _still_to_write(videos: Sequence[Video], recipe: Recipe) -> float:
    """Estimate the bytes of all frame indexes, less the bytes of files that need no space again.

    These files are indexes and this training's newest checkpoints. Its clean lists may not exist
    yet, so its folder is found by the settings in its stamp, without the digests of the lists.
    """
    hours = sum(video.duration for video in videos) / 3600
    files = [*RESULTS.glob("scan/*.npz")]
    settings = settings_in(recipe)
    for stamp_file in RESULTS.glob(f"work_dirs/*/{STAMP}"):
        with contextlib.suppress(EpicError):  # A damaged stamp is that of another training.
            if settings.items() <= read_stamp(stamp_file.parent).items():
                newest = attempts(stamp_file.parent)[:1]
                files += [path for attempt in newest for path in checkpoints(attempt)]
    return hours * INDEX_BYTES_PER_HOUR - sum(path.stat().st_size for path in files)


def main(function: str) -> None:
    """Call a function with what is pickled on stdin, and print its result as JSON in the last line.

    Args:
        function: `start_check` or `finished_runs`.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    # Libraries print to stdout, but the caller reads the result there.
    with contextlib.redirect_stdout(sys.stderr):
        request = pickle.load(sys.stdin.buffer)
        if function == "finished_runs":
            answer: Any = finished_runs(request)
        else:
            table = start_check(request)
            errors = len(table.errors)
            summary = f"{errors} errors stop this run" if errors else "nothing is wrong"
            answer = (not errors, f"Start check: {summary}\n{table.text()}")
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
