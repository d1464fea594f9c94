"""Settings of the data: annotations, videos, their scan and copies, participants, and the demo."""

import os
from typing import Annotated, Literal

from pydantic import AfterValidator

from epic100.settings.section import FilePath, Names, Section, key, like

# Raise it when the scan finds more, or its index changes, so that every video is scanned again.
SCAN_VERSION = 7

SECONDS_PER_SECOND = 2


class ScanLimits(Section):
    """Limits on the time and memory for one video, so that no file can hang a scan."""

    stall_seconds: float = key(60, "a video is given up after this time without a frame", gt=0)
    min_seconds: float = key(
        300, "every video may take this time, and two seconds more for each of its seconds", gt=0
    )
    memory_mib: int = key(3072, "address space of one decoder in MiB; 0: no limit", ge=0)
    max_pixels: int = key(
        16777216, "pixels of the largest frame that is decoded; larger ones are unreadable", ge=1
    )

    def total(self, seconds: float) -> float:
        """Return how many seconds the work on a video of this length may take."""
        return self.min_seconds + SECONDS_PER_SECOND * seconds


class Cleaning(Section):
    """What to do with damaged videos."""

    policy: Literal["segment", "video"] = key(
        "segment", "drop segments that touch damaged frames; `video`: the complete video"
    )


class ProxySettings(Section):
    """Small copies with key frames close together, to read clips from (docs/data.md)."""

    height: int = key(
        256, "pixels (of upright frames, the width); a smaller original keeps its own", ge=16
    )
    gop: int = key(30, "frames from key frame to key frame", ge=1)
    crf: float = key(18, "x264's rate factor, lower is better and larger", ge=0, le=51)
    root: FilePath = key(
        "results/proxies",
        "copies are at {root}/{participant_id}/{video_id}.MP4",
        of_inputs=True,
    )

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return (width, height) of a copy: in proportion, even, never above the original's.

        A side that is 1 pixel long or rounds to 0 becomes 2, the smallest even number.
        """
        scale = min(1.0, self.height / min(width, height))
        copy_width = max(2, 2 * round(width * scale / 2))
        copy_height = max(2, 2 * round(height * scale / 2))
        return copy_width, copy_height

    def options(self) -> dict[str, str]:
        """Return the options of libx264.

        There are always five B-frames in a row (b-adapt=0), on which no other frame depends
        (b-pyramid=none). So B-frames that are not wanted are not decoded.
        """
        b_frames = "bframes=5:b-adapt=0:b-pyramid=none"
        return {
            "preset": "veryfast",
            "tune": "fastdecode",
            "crf": str(self.crf),
            "threads": "1",
            "a53cc": "0",
            "x264-params": f"keyint={self.gop}:min-keyint=1:scenecut=0:{b_frames}:open-gop=0",
        }


class Annotations(Section):
    """Official CSVs, from github.com/epic-kitchens/epic-kitchens-100-annotations."""

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
