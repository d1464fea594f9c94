"""The video sheet: one row per video, read before any download, so that the DAG is static."""

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from epic100.base.errors import EpicError
from epic100.base.names import MD5, NAME_WORDS, URL_WORDS, is_name, is_url
from epic100.base.text_table import read_table

REQUIRED = ("video_id", "participant_id", "split", "fps", "duration")
SPLITS = ("train", "val", "test")
MOST_FPS, MOST_SECONDS = 10_000.0, 1e6  # their product, a number of frames, fits into int64


@dataclass(frozen=True)
class Video:
    """A row of the sheet.

    Attributes:
        fps: Frames per second of the file.
        duration: In seconds.
        url: Where to download it, or "".
        md5: 32 hexadecimal digits, or "".
    """

    video_id: str
    participant_id: str
    split: str
    fps: float
    duration: float
    url: str = ""
    md5: str = ""

    def path(self, root: str | os.PathLike = "") -> Path:
        """Path of the file below the video root: `{participant}/{video_id}.MP4`."""
        return Path(root) / self.participant_id / f"{self.video_id}.MP4"


def read_sheet(path: str | os.PathLike) -> list[Video]:
    """Read a tab-separated sheet with at least the columns of `REQUIRED`; others are ignored.

    Raises:
        EpicError: The sheet is invalid. The message names file, line and column.
    """
    about = (
        f"a video sheet (`videos: sheet:` in the config), tab-separated {' '.join(REQUIRED)} "
        "[url md5]"
    )
    videos: list[Video] = []
    seen: dict[str, int] = {}
    for line, row in read_table(path, REQUIRED, about=about):
        video = _video(row, f"{path}: line {line}")
        if video.video_id in seen:
            raise EpicError(
                f"{path}: line {line}: video_id {video.video_id} is on line "
                f"{seen[video.video_id]} already; one row a video, remove one of them"
            )
        seen[video.video_id] = line
        videos.append(video)
    if not videos:
        raise EpicError(f"{path}: no rows; expected one row a video below the header")
    return videos


def _video(row: dict[str, str], where: str) -> Video:
    def positive(name: str, most: float) -> float:
        try:
            value = float(row[name])
        except ValueError:
            value = 0.0
        if not 0 < value <= most:
            raise EpicError(
                f"{where}: {name} is {row[name]!r}; expected a positive number, at most {most:g}"
            )
        return value

    for name in ("video_id", "participant_id"):
        if not is_name(row[name]):
            raise EpicError(f"{where}: {name} is {row[name]!r}; expected {NAME_WORDS}")
    if row["split"] not in SPLITS:
        raise EpicError(f"{where}: split is {row['split']!r}; expected one of {', '.join(SPLITS)}")
    url, md5 = row.get("url", ""), row.get("md5", "")
    if url and not is_url(url):
        raise EpicError(f"{where}: url is {url!r}; expected {URL_WORDS}, or nothing")
    if md5 and not MD5.fullmatch(md5):
        raise EpicError(f"{where}: md5 is {md5!r}; expected 32 hexadecimal digits, or nothing")
    return Video(
        video_id=row["video_id"],
        participant_id=row["participant_id"],
        split=row["split"],
        fps=positive("fps", MOST_FPS),
        duration=positive("duration", MOST_SECONDS),
        url=url,
        md5=md5,
    )


def participants_of(
    videos: Sequence[Video], exclude: Sequence[str], include: Sequence[str] = ()
) -> list[str]:
    """Participants in the sheet's order: `include`, or everyone if it is empty, minus `exclude`.

    Raises:
        EpicError: The sheet has no such participant (a typo), or nobody is left.
    """
    everyone = list(dict.fromkeys(video.participant_id for video in videos))
    for key, names in (("exclude", exclude), ("include", include)):
        if unknown := [name for name in names if name not in everyone]:
            raise EpicError(
                f"config: participants.{key} names {', '.join(unknown)}, which the video sheet "
                f"does not have; expected some of {', '.join(everyone)}"
            )
    chosen = [name for name in include or everyone if name not in exclude]
    if not chosen:
        raise EpicError(
            "config: participants.exclude and .include leave nobody; expected one participant or "
            "more"
        )
    return [name for name in everyone if name in chosen]


def unlisted_files(videos: Sequence[Video], root: str | os.PathLike) -> list[Path]:
    """Video files in the folders of these videos that no row of the sheet names, sorted by path."""
    listed = {video.path(root) for video in videos}
    folders = {path.parent for path in listed}
    files = {path for folder in folders for path in folder.glob("*.[Mm][Pp]4")}
    return sorted(files - listed)


def on_disk_lines(
    videos: Sequence[Video], there: Collection[str], root: str | os.PathLike
) -> Iterator[str]:
    """Report which videos are on disk: one line per split, or one line if all or none are.

    Args:
        videos: All videos that the run needs.
        there: Ids of the videos that are on disk or will be.
        root: The folder that the config names.
    """
    known = sum(video.video_id in there for video in videos)
    if known == len(videos) or not known:
        count = f"all {known}" if known else f"none of the {len(videos)}"
        yield f"{root}: {count} videos of the sheet are there"
        return
    yield f"{root}: {known} of the {len(videos)} videos of the sheet are there"
    for split in SPLITS:
        own = [video for video in videos if video.split == split]
        if own:
            yield f"  {split}: {_by_participant(own, there)}"


def _by_participant(videos: Sequence[Video], there: Collection[str]) -> str:
    whole, some, none = [], [], []
    for participant in dict.fromkeys(video.participant_id for video in videos):
        own = [video.video_id in there for video in videos if video.participant_id == participant]
        if all(own):
            whole.append(participant)
        elif any(own):
            some.append(f"{sum(own)} of {len(own)} of {participant}")
        else:
            none.append(participant)
    parts = [f"all of {' '.join(whole)}"] if whole else []
    parts += some
    parts += [f"none of {' '.join(none)}"] if none else []
    known = sum(video.video_id in there for video in videos)
    return f"{known} of {len(videos)} ({', '.join(parts)})"
