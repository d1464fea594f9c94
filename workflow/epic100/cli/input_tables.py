"""Check the contents of CSVs, official lists and finished models, alone and against each other."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import pandas as pd

from epic100.base.disk import digest
from epic100.base.errors import EpicError
from epic100.cli.input_line import NOTE, OK, WRONG, Line, some
from epic100.cli.input_videos import Archive
from epic100.data.annotations import read_annotations
from epic100.data.official_lists import CLASS_LISTS, read_class_list, read_list
from epic100.data.segment_list import NO_LABEL
from epic100.settings.config import HEADS_FOR, Settings
from epic100.video.sheet import Video

# If more of the segments of a split begin after the end of their video, their times are wrong.
MAX_LATE_SHARE = 0.5
# A video is shorter than its annotated part times this, unless its unit differs.
MAX_RATIO = 200


def table_lines(
    csvs: Mapping[str, str], lists: Mapping[str, str], config: Settings, archive: Archive
) -> Iterator[Line]:
    """Read all annotations and official lists, and report what is wrong with them.

    Args:
        csvs: The existing annotation files by split.
        lists: The existing official lists by key.
        config: The config of the run.
        archive: The videos of its sheet.
    """
    tables: dict[str, pd.DataFrame] = {}
    by_id = {video.video_id: video for video in archive.videos}
    for split, path in csvs.items():
        try:
            tables[split] = read_annotations(
                path, by_id, split=split, **config.annotation_arguments
            )
        except EpicError as error:
            yield Line(WRONG, "annotations", str(error))
    if tables:
        counts = ", ".join(f"{split} {len(table):,}" for split, table in tables.items())
        yield Line(OK, "annotations", f"segments: {counts}")
        yield from _late_lines(tables, csvs, config, archive)
        yield from _empty_split_lines(tables, csvs, config, archive)
        yield from _shared_id_lines(tables, csvs)
    for key, path in lists.items():
        try:
            yield from (
                _unseen_lines(path, tables, by_id)
                if key == "unseen_participants"
                else _class_lines(key, path, tables, config)
            )
        except EpicError as error:
            yield Line(WRONG, "evaluate", str(error))


def _late_lines(
    tables: Mapping[str, pd.DataFrame], csvs: Mapping[str, str], config: Settings, archive: Archive
) -> Iterator[Line]:
    """Report segments after the end of their video, and durations in another unit."""
    durations = {video.video_id: video.duration for video in archive.videos}
    sheet = config.videos.sheet
    for split, table in tables.items():
        lengths = table["video_id"].map(durations)
        is_late = table["start_seconds"] >= lengths
        if is_late.any():
            is_often = is_late.mean() > MAX_LATE_SHARE and not config.videos.subset
            yield Line(
                WRONG if is_often else NOTE,
                "annotations",
                f"{csvs[split]}: {is_late.sum()} of {len(table)} segments begin after the end of "
                f"their video by {sheet}, such as {table['narration_id'][is_late].iloc[0]}, and "
                "would be left out; correct their times (HH:MM:SS, no minutes for seconds), or "
                "the duration there (seconds)",
            )
        last_stops = table.groupby("video_id")["stop_seconds"].max()
        ratios = last_stops.index.map(durations) / last_stops
        if len(ratios) and ratios.median() > MAX_RATIO:
            yield Line(
                WRONG,
                "videos",
                f"{sheet}: durations are {ratios.median():,.0f} times the end of the last segment "
                f"of {split}, such as {last_stops.index[0]}; expected seconds, no milliseconds",
            )


def _empty_split_lines(
    tables: Mapping[str, pd.DataFrame], csvs: Mapping[str, str], config: Settings, archive: Archive
) -> Iterator[Line]:
    """Report splits with labels of which the sheet or the config leaves no segment."""
    participant_of = {video.video_id: video.participant_id for video in archive.videos}
    # A run trains and validates on these splits, so each of them needs segments.
    for split in filter(tables.__contains__, ("train", "val")):
        participants = sorted(set(tables[split]["video_id"].map(participant_of)))
        if not participants:
            yield Line(
                WRONG,
                "annotations",
                f"{csvs[split]}: none of its rows has a video of {config.videos.sheet}, and "
                "`videos: subset: true` leaves them all out; compare the ids of the two files, "
                "capitals too",
            )
        elif not set(participants) & set(archive.chosen):
            yield Line(
                WRONG,
                "participants",
                f"no segment of {split} is left: all of {csvs[split]} are of {some(participants)}, "
                "whom `participants:` leaves out; keep one of them",
            )


def _shared_id_lines(tables: Mapping[str, pd.DataFrame], csvs: Mapping[str, str]) -> Iterator[Line]:
    """Report ids of segments that are in two splits."""
    ids = pd.concat(
        [table[["narration_id"]].assign(split=split) for split, table in tables.items()]
    )
    twice = ids[ids["narration_id"].duplicated(keep=False)]
    if len(twice):
        name = twice["narration_id"].iloc[0]
        files = " and ".join(
            csvs[split] for split in twice.loc[twice["narration_id"] == name, "split"]
        )
        yield Line(
            WRONG,
            "annotations",
            f"{files}: narration_id {name} is in both (such ids: "
            f"{twice['narration_id'].nunique()}); expected an id in one split: predictions are "
            "found by it",
        )


def _unseen_lines(
    path: str, tables: Mapping[str, pd.DataFrame], videos: Mapping[str, Video]
) -> Iterator[Line]:
    """Report a list of unseen participants none of whom has a segment of val."""
    unseen = set(read_list(path, "unseen_participants"))
    video_ids: Iterable[str] = tables["val"]["video_id"] if "val" in tables else ()
    participants = {videos[video_id].participant_id for video_id in video_ids}
    if unseen and participants and not unseen & participants:
        yield Line(
            NOTE,
            "evaluate",
            f"{path}: none of its participants has a segment of val, so that `unseen` has no "
            "metric; expected the list of the validation split, unless the archive is a part",
        )


def _class_lines(
    key: str, path: str, tables: Mapping[str, pd.DataFrame], config: Settings
) -> Iterator[Line]:
    """Report where a list of classes differs from the classes of config and annotations.

    Args:
        key: The key of the list in `evaluate:`, such as `tail_verbs` or `verb_classes`.
        path: The list.
        tables: The annotations by split.
        config: The config of the run.
    """
    # The key `tail_verbs` or `verb_classes` is about the task `verb`.
    task = key.removeprefix("tail_").removesuffix("_classes").rstrip("s")
    count = getattr(config.classes, f"{task}s")
    listed = set(read_class_list(path, key) if key in CLASS_LISTS else read_list(path, key))
    if beyond := sorted(listed - set(range(count))):
        yield Line(
            WRONG,
            "evaluate",
            f"{path}: {task} {beyond[0]} is in it, but `classes: {task}s:` is {count}; expected "
            f"ids below that, in the file of `evaluate: {key}:`",
        )
    if key in CLASS_LISTS and len(listed) < count:
        yield Line(
            NOTE,
            "evaluate",
            f"{path}: names {len(listed)} of the {count} classes of `classes: {task}s:`; expected "
            "the same number in both",
        )
    for split, table in tables.items() if key in CLASS_LISTS else ():
        if unnamed := sorted(set(table[task]) - listed - {NO_LABEL}):
            yield Line(
                WRONG,
                "evaluate",
                f"{path}: no name for {task} {unnamed[0]}, which {split} has; expected each class "
                f"of the annotations in the file of `evaluate: {key}:`",
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
        if model.heads not in HEADS_FOR.get(reduce, (model.heads,)):
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
