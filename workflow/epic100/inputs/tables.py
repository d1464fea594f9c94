"""The contents of CSVs, official lists and finished models, alone and held against each other."""

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from epic100.base.disk import digest
from epic100.base.errors import EpicError
from epic100.inputs.archive import Archive
from epic100.inputs.lines import NOTE, OK, WRONG, Line, some
from epic100.segments.annotations import load_annotations
from epic100.segments.official_lists import CLASS_LISTS, read_class_list, read_list
from epic100.segments.segment_list import NO_LABEL
from epic100.settings import Settings
from epic100.settings.config import HEADS_FOR
from epic100.video.sheet import Video

LABELLED = ("train", "val")


def table_lines(
    csvs: Mapping[str, str], lists: Mapping[str, str], config: Settings, archive: Archive
) -> Iterator[Line]:
    """Read all annotations and official lists.

    Args:
        csvs: The annotation files that are there, by split.
        lists: The official lists that are there, by key.
        config: The config of the run.
        archive: Its sheet.
    """
    tables = dict[str, pd.DataFrame]()
    by_id = {video.video_id: video for video in archive.videos}
    for split, path in csvs.items():
        try:
            tables[split] = load_annotations(path, by_id, split=split, **config.reading)
        except EpicError as error:
            yield Line(WRONG, "annotations", str(error))
    yield from _splits(tables, csvs, config, archive)
    for key, path in lists.items():
        try:
            yield from _list(key, path, tables, config, by_id)
        except EpicError as error:
            yield Line(WRONG, "evaluate", str(error))


def _splits(
    tables: Mapping[str, pd.DataFrame], csvs: Mapping[str, str], config: Settings, archive: Archive
) -> Iterator[Line]:
    """How many segments there are, who has them, and whether an id is in two splits."""
    if tables:
        counts = ", ".join(f"{split} {len(table):,}" for split, table in tables.items())
        yield Line(OK, "annotations", f"segments: {counts}")
    durations = {video.video_id: video.duration for video in archive.videos}
    for split, table in tables.items():
        late = table["start_seconds"] >= table["video_id"].map(durations)
        if late.any():
            yield Line(
                NOTE,
                "annotations",
                f"{csvs[split]}: {late.sum()} segments begin after the end of their video by "
                f"{config.videos.sheet}, such as {table['narration_id'][late].iloc[0]}, and would "
                "be left out; correct their times, or the duration there",
            )
    owners = {video.video_id: video.participant_id for video in archive.videos}
    for split in filter(tables.__contains__, LABELLED):
        people = sorted(set(tables[split]["video_id"].map(owners)))
        if not people:
            yield Line(
                WRONG,
                "annotations",
                f"{csvs[split]}: none of its rows has a video of {config.videos.sheet}, and "
                "`videos: subset: true` leaves them all out; compare the ids of the two files, "
                "capitals too",
            )
        elif not set(people) & set(archive.chosen):
            yield Line(
                WRONG,
                "participants",
                f"no segment of {split} is left: all of {csvs[split]} are of {some(people)}, whom "
                "`participants:` leaves out; keep one of them",
            )
    ids = pd.concat(
        [table[["narration_id"]].assign(split=split) for split, table in tables.items()]
        or [pd.DataFrame({"narration_id": [], "split": []})]
    )
    twice = ids[ids["narration_id"].duplicated(keep=False)]
    if len(twice):
        name = twice["narration_id"].iloc[0]
        count = twice["narration_id"].nunique()
        files = " and ".join(
            csvs[split] for split in twice.loc[twice["narration_id"] == name, "split"]
        )
        yield Line(
            WRONG,
            "annotations",
            f"{files}: narration_id {name} is in both (such ids: {count}); "
            "expected an id in one split: predictions are found by it",
        )


def _list(
    key: str,
    path: str,
    tables: Mapping[str, pd.DataFrame],
    config: Settings,
    videos: Mapping[str, Video],
) -> Iterator[Line]:
    """Whether a list has the classes of the config and of the annotations."""
    task = key.removeprefix("tail_").removesuffix("_classes").rstrip("s")
    if key == "unseen_participants":
        unseen, val = set(read_list(path, key)), tables.get("val")
        people = set() if val is None else {videos[name].participant_id for name in val["video_id"]}
        if unseen and people and not unseen & people:
            yield Line(
                NOTE,
                "evaluate",
                f"{path}: none of its participants has a segment of val, so that `unseen` has no "
                "figure; expected the list of the validation split, unless the archive is a part",
            )
        return
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
        if lacking := sorted(set(table[task]) - listed - {NO_LABEL}):
            yield Line(
                WRONG,
                "evaluate",
                f"{path}: no name for {task} {lacking[0]}, which {split} has; expected each class "
                f"of the annotations in the file of `evaluate: {key}:`",
            )


def model_lines(paths: Sequence[str], config: Settings) -> Iterator[Line]:
    """Whether finished models have the classes of the config, and the heads to be folded."""
    if not paths:
        return
    # It takes seconds to import, and only a config with finished models needs it.
    from epic100.model.model_file import load_model

    classes, contents = config.classes, dict[str, str]()
    for path in paths:
        try:
            model = load_model(path)
        except EpicError as error:
            yield Line(WRONG, "predict", str(error))
            continue
        if (model.num_verbs, model.num_nouns) != (classes.verbs, classes.nouns):
            yield Line(
                WRONG,
                "predict",
                f"{path}: a model of {model.num_verbs} verbs and {model.num_nouns} nouns, but the "
                f"config has {classes.verbs} and {classes.nouns}; correct `classes:`, or take "
                "another model in `predict:`",
            )
        reduce = config.export.reduce
        if model.heads not in HEADS_FOR.get(reduce, (model.heads,)):
            yield Line(
                WRONG,
                "predict",
                f"{path}: has `heads: {model.heads}`, which `export: reduce: {reduce}` cannot "
                "fold; leave `reduce:` out, or take another model",
            )
        content = digest(path, "sha256").value
        if content in contents:
            yield Line(
                WRONG,
                "predict",
                f"{path}: is {contents[content]} again; expected each of `predict: models:` once",
            )
        contents[content] = path
