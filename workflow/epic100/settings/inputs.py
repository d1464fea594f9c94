"""Settings of annotations, videos, participants and official lists, and of the demo."""

import os
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator

from epic100.settings.section import Section, key
from epic100.settings.values import FilePath, Names, like
from epic100.settings.videos import ProxySettings


class Annotations(Section):
    """Official CSVs, from github.com/epic-kitchens/epic-kitchens-100-annotations."""

    gone: ClassVar[Mapping[str, str]] = {
        "format": "lists are made from the official CSVs: remove the key (docs/migration.md)",
    }

    train: FilePath = key("annotations/EPIC_100_train.csv", "official CSV")
    val: FilePath = key("annotations/EPIC_100_validation.csv", "official CSV")
    test: FilePath | None = key(None, "EPIC_100_test_timestamps.csv; null: no test predictions")
    name: str | None = key(
        None,
        "what the data is called in card, report, page and published folder; null: "
        "EPIC-KITCHENS-100 if the CSV is the official one, else `annotations of our own`",
    )
    download: bool = key(
        False, "fetch the CSVs and lists that are missing, and verify all (docs/data.md)"
    )
    sheet: FilePath = key(
        "config/annotations.tsv", "the URL of each official file at a pinned commit, its checksum"
    )


class Classes(Section):
    """Number of classes; ids run from 0."""

    verbs: int = key(97, "verb classes", ge=1)
    nouns: int = key(300, "noun classes", ge=1)


Pattern = Annotated[
    str,
    AfterValidator(
        like(
            r"([^{}]|\{participant\})*\{video\}([^{}]|\{participant\}|\{video\})*",
            "a path with {video} in it, and besides it at most {participant} in braces",
        )
    ),
]


class Videos(Section):
    """Which videos there are, and in which folder."""

    root: FilePath = key(
        "videos",
        "files are at {root}/{participant}/{video}.MP4, {root}/{participant}/videos/{video}.MP4 or "
        "{root}/{video}.MP4; `.mp4` will do; or extracted frames at "
        "{root}/{participant}/rgb_frames/{video}.tar, or in a folder of that name without `.tar`",
    )
    pattern: Pattern | None = key(
        None,
        "where each file is below `root` if it is at none of these: a path with {video} and, where "
        "wanted, {participant} in it, such as `all/{participant}/{video}_small.mp4`",
    )
    sheet: FilePath = key("config/videos.tsv", "the list of videos (below)")
    subset: bool = key(
        False,
        "the sheet lists fewer videos than the CSVs on purpose: leave out the segments of the "
        "others instead of rejecting them",
    )
    download: bool = key(
        False, "fetch missing videos from the sheet's `url`, verify all by its `md5`"
    )
    accept: Names = key([], "videos to use although their length is in doubt (docs/damage.md)")
    proxy: ProxySettings | None = key(None, "small copies to read clips from; {}: these defaults")

    @property
    def place(self) -> str:
        """The argument of `find_files`: the root, with the pattern if there is one."""
        return os.path.join(self.root, self.pattern) if self.pattern else self.root


class Participants(Section):
    """Who takes part."""

    exclude: Names = key(
        [], "participants left out: not scanned, their segments dropped with that reason"
    )
    include: Names = key([], "participants that take part, without the ones of `exclude`; []: all")


class OfficialLists(Section):
    """Names of classes; null: the file with the official name in the val CSV's folder."""

    gone: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("tail_verbs", "tail_nouns", "unseen_participants"),
        "put the list, or a link to it, beside the val CSV under its official name (docs/data.md)",
    )

    verb_classes: FilePath | None = key(
        None, "EPIC_100_verb_classes.csv, the report's names; absent: the annotators' words"
    )
    noun_classes: FilePath | None = key(None, "EPIC_100_noun_classes.csv, likewise")


class Minikitchen(Section):
    """The demo only: the workflow makes its own annotations and videos."""

    seed: int = key(0, "decides everything in it", ge=0)
    level: Literal["easy", "hard"] = key(
        "easy",
        "`hard`: verbs that differ only in direction, small nouns off centre, a long tail "
        "(docs/recipe.md)",
    )
    damage: dict[str, Literal["truncated", "zeroed", "bitflips", "empty", "missing"]] = key(
        {}, "damage done to finished files, by video_id"
    )
