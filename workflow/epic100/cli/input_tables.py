"""Check the contents of CSVs, official lists and finished models, alone and against each other."""

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from epic100.base.disk import digest
from epic100.base.errors import EpicError, some
from epic100.cli.input_videos import NOTE, OK, WRONG, Archive, Line
from epic100.data.annotations import read_annotations
from epic100.data.official_lists import CLASS_LISTS, LISTS, read_class_list, read_list
from epic100.data.segment_list import NO_LABEL
from epic100.settings.config import HEADS_FOR, Settings
from epic100.video.sheet import SPLITS

# If more of the segments of a split begin after the end of their video, their times are wrong.
MAX_LATE_SHARE = 0.5
# A video is shorter than its annotated part times this, unless its unit differs.
MAX_RATIO = 200


def table_lines(paths: Mapping[str, str], config: Settings, archive: Archive) -> Iterator[Line]:
    """Read all annotations and official lists, and report what is wrong with them.

    Args:
        paths: The existing annotation files by split, and official lists by key.
        config: The config of the run.
        archive: The videos of its sheet.
    """
    tables: dict[str, pd.DataFrame] = {}
    videos = {video.video_id: video for video in archive.videos}
    # Each segment gets the participant and the duration of its video.
    of_video = pd.DataFrame(archive.videos).set_index("video_id")[["participant_id", "duration"]]
    for split in SPLITS:
        if split not in paths:
            continue
        try:
            table = read_annotations(
                paths[split], videos, split=split, **config.annotation_arguments
            )
        except EpicError as error:
            yield Line(WRONG, "annotations", str(error))
            continue
        tables[split] = table.join(of_video, on="video_id")
    if tables:
        counts = ", ".join(f"{split} {len(table):,}" for split, table in tables.items())
        yield Line(OK, "annotations", f"segments: {counts}")
        yield from _late_lines(tables, paths, config)
        yield from _empty_split_lines(tables, paths, config, archive)
        yield from _shared_id_lines(tables, paths)
    for key in (*LISTS, *CLASS_LISTS):
        if key not in paths:
            continue
        try:
            yield from _list_lines(key, paths[key], tables, config)
        except EpicError as error:
            yield Line(WRONG, "evaluate", str(error))


def _late_lines(
    tables: Mapping[str, pd.DataFrame], paths: Mapping[str, str], config: Settings
) -> Iterator[Line]:
    """Report segments after the end of their video, and durations in another unit."""
    sheet = config.videos.sheet
    for split, table in tables.items():
        is_late = table["start_seconds"] >= table["duration"]
        if is_late.any():
            is_often = is_late.mean() > MAX_LATE_SHARE and not config.videos.subset
            yield Line(
                WRONG if is_often else NOTE,
                "annotations",
                f"{paths[split]}: {is_late.sum()} of {len(table)} segments begin after the end of "
                f"their video by {sheet}, such as {table['narration_id'][is_late].iloc[0]}, and "
                "would be left out; correct their times (HH:MM:SS, no minutes for seconds), or "
                "the duration there (seconds)",
            )
        last = table.groupby("video_id")[["stop_seconds", "duration"]].max()
        ratio = (last["duration"] / last["stop_seconds"]).median()
        if ratio > MAX_RATIO:  # The median of no video is NaN.
            yield Line(
                WRONG,
                "videos",
                f"{sheet}: durations are {ratio:,.0f} times the end of the last segment "
                f"of {split}, such as {last.index[0]}; expected seconds, no milliseconds",
            )


def _empty_split_lines(
    tables: Mapping[str, pd.DataFrame], paths: Mapping[str, str], config: Settings, archive: Archive
) -> Iterator[Line]:
    """Report splits with labels of which the sheet or the config leaves no segment."""
    # A run trains and validates on these splits, so each of them needs segments.
    for split in filter(tables.__contains__, ("train", "val")):
        participants = sorted(set(tables[split]["participant_id"]))
        if not participants:
            yield Line(
                WRONG,
                "annotations",
                f"{paths[split]}: none of its rows has a video of {config.videos.sheet}, and "
                "`videos: subset: true` leaves them all out; compare the ids of the two files, "
                "capitals too",
            )
        elif set(participants).isdisjoint(archive.chosen):
            yield Line(
                WRONG,
                "participants",
                f"no segment of {split} is left: all of {paths[split]} are of "
                f"{some(participants)}, whom `participants:` leaves out; keep one of them",
            )


def _shared_id_lines(
    tables: Mapping[str, pd.DataFrame], paths: Mapping[str, str]
) -> Iterator[Line]:
    """Report ids of segments that are in two splits."""
    ids = pd.concat({split: table["narration_id"] for split, table in tables.items()})
    shared = ids[ids.duplicated(keep=False)]
    if len(shared):
        name = shared.iloc[0]
        splits = shared.index[shared == name].get_level_values(0)
        yield Line(
            WRONG,
            "annotations",
            f"{' and '.join(map(paths.__getitem__, splits))}: narration_id {name} is in both (such "
            f"ids: {shared.nunique()}); expected an id in one split: predictions are found by it",
        )


def _list_lines(
    key: str, path: str, tables: Mapping[str, pd.DataFrame], config: Settings
) -> Iterator[Line]:
    """Report where an official list differs from the config and the annotations.

    Args:
        key: The key of the list in `evaluate:`, such as `tail_verbs` or `verb_classes`.
        path: The list.
        tables: The annotations by split, with the participant of each segment.
        config: The config of the run.
    """
    if key == "unseen_participants":
        yield from _unseen_participant_lines(path, tables)
        return
    # The other keys are `tail_{task}s`, a list of ids, and `{task}_classes`, ids with names.
    task = "verb" if "verb" in key else "noun"
    count = getattr(config.classes, f"{task}s")
    has_names = key in CLASS_LISTS
    listed = set(read_class_list(path, key) if has_names else read_list(path, key))
    if beyond := sorted(listed - set(range(count))):
        yield Line(
            WRONG,
            "evaluate",
            f"{path}: {task} {beyond[0]} is in it, but `classes: {task}s:` is {count}; expected "
            f"ids below that, in the file of `evaluate: {key}:`",
        )
    if not has_names:
        return
    if len(listed) < count:
        yield Line(
            NOTE,
            "evaluate",
            f"{path}: names {len(listed)} of the {count} classes of `classes: {task}s:`; expected "
            "the same number in both",
        )
    for split, table in tables.items():
        if unnamed := sorted(set(table[task]) - listed - {NO_LABEL}):
            yield Line(
                WRONG,
                "evaluate",
                f"{path}: no name for {task} {unnamed[0]}, which {split} has; expected each class "
                f"of the annotations in the file of `evaluate: {key}:`",
            )


def _unseen_participant_lines(path: str, tables: Mapping[str, pd.DataFrame]) -> Iterator[Line]:
    """Report a list of unseen participants of whom none is in the split val."""
    unseen = set(read_list(path, "unseen_participants"))
    of_val = set(tables["val"]["participant_id"]) if "val" in tables else set()
    if unseen and of_val and unseen.isdisjoint(of_val):
        yield Line(
            NOTE,
            "evaluate",
            f"{path}: none of its participants has a segment of val, so that `unseen` has no "
            "metric; expected the list of the validation split, unless the archive is a part",
        )


def model_lines(paths: Sequence[str], config: Settings) -> Iterator[Line]:
    """Report finished models with other classes than the config, or without the heads it needs."""
    if not paths:
        return
    # This import takes seconds, and only a config with finished models needs it.
    from epic100.model.model_file import load_model

    seen_paths: dict[str, str] = {}
    for path in paths:
        try:
            model = load_model(path)
        except EpicError as error:
            yield Line(WRONG, "predict", str(error))
            continue
        if (model.num_verbs, model.num_nouns) != (config.classes.verbs, config.classes.nouns):
            yield Line(
                WRONG,
                "predict",
                f"{path}: a model of {model.num_verbs} verbs and {model.num_nouns} nouns, but the "
                f"config has {config.classes.verbs} and {config.classes.nouns}; correct "
                "`classes:`, or take another model in `predict:`",
            )
        reduce = config.export.reduce
        if reduce in HEADS_FOR and model.heads not in HEADS_FOR[reduce]:
            yield Line(
                WRONG,
                "predict",
                f"{path}: has `heads: {model.heads}`, which `export: reduce: {reduce}` cannot "
                "fold; leave `reduce:` out, or take another model",
            )
        sha256 = digest(path, "sha256").value
        if sha256 in seen_paths:
            yield Line(
                WRONG,
                "predict",
                f"{path}: is {seen_paths[sha256]} again; expected each of `predict: models:` once",
            )
        seen_paths[sha256] = path
