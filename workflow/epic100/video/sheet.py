"""The video sheet: one row per video, read before any download, so that the DAG is static."""

import functools
import itertools
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from epic100.base.disk import insist
from epic100.base.errors import EpicError
from epic100.base.names import MD5, NAME, NAME_WORDS, URL, URL_WORDS
from epic100.base.text_table import read_table

REQUIRED = ("video_id", "participant_id", "split", "fps", "duration")
# A video may be at any of these places below the root. Downloads go to the first one, which is
# also its path in lists.
LAYOUTS = ("{participant}/{video}.MP4", "{participant}/videos/{video}.MP4", "{video}.MP4")
FILMS = (".mp4", ".mkv", ".mov", ".avi", ".webm")
SPLITS = ("train", "val", "test")
MOST_FPS, MOST_SECONDS = 10_000.0, 1e6  # Their product, a number of frames, fits into int64.
# It says in words what each column that is read may hold.
EXPECTED = {
    "video_id": NAME_WORDS,
    "participant_id": NAME_WORDS,
    "split": f"one of {', '.join(SPLITS)}",
    "fps": f"a positive number, at most {MOST_FPS:g}",
    "duration": f"a positive number, at most {MOST_SECONDS:g}",
    "url": f"{URL_WORDS}, or nothing",
    "md5": "32 hexadecimal digits, or nothing",
}

Listed = TypeVar("Listed", str, Path)


@dataclass(frozen=True)
class Video:
    """A video: one row of the sheet.

    Attributes:
        split: One of `SPLITS`.
        fps: Frames per second of the file.
        duration: In seconds.
        url: Where to download it, or "".
        md5: 32 hexadecimal digits, or "".
    """

    video_id: Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
    participant_id: Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
    split: Annotated[str, Field(pattern=f"^({'|'.join(SPLITS)})$")]
    fps: Annotated[float, Field(gt=0, le=MOST_FPS)]
    duration: Annotated[float, Field(gt=0, le=MOST_SECONDS)]
    url: Annotated[str, Field(max_length=2000, pattern=f"^({URL.pattern})?$")] = ""
    md5: Annotated[str, Field(pattern=f"^({MD5.pattern})?$")] = ""

    def path(self, root: str | os.PathLike = "") -> Path:
        """Where a download puts the file, and how lists name it: `P01/P01_01.MP4` below `root`."""
        return Path(root, self.participant_id, f"{self.video_id}.MP4")

    def file(self, root: str | os.PathLike) -> Path:
        """Where the file is on the disk: in any layout, with any ending (`find_files`)."""
        return find_files([self.path()], root)[self.path()]


_ROW = TypeAdapter(Video)


def read_sheet(path: str | os.PathLike) -> list[Video]:
    """Read a tab-separated sheet with at least the columns of `REQUIRED`; others are ignored.

    Raises:
        EpicError: The sheet is invalid. The message names file, line and column.
    """
    expected_table = (
        f"a video sheet (`videos: sheet:` in the config), tab-separated {' '.join(REQUIRED)} "
        "[url md5]"
    )
    videos: list[Video] = []
    line_of_video: dict[str, int] = {}
    for line, row in read_table(path, REQUIRED, about=expected_table):
        try:
            video = _ROW.validate_python({name: row[name] for name in EXPECTED if name in row})
        except ValidationError as error:
            # The first error is about this column.
            name = str(error.errors()[0]["loc"][0])
            raise EpicError(
                f"{path}: line {line}: {name} is {row[name]!r}; expected {EXPECTED[name]}"
            ) from error
        if video.video_id in line_of_video:
            raise EpicError(
                f"{path}: line {line}: video_id {video.video_id} is on line "
                f"{line_of_video[video.video_id]} already; one row a video, remove one of them"
            )
        line_of_video[video.video_id] = line
        videos.append(video)
    if not videos:
        raise EpicError(f"{path}: no rows; expected one row a video below the header")
    return videos


def participants_of(
    videos: Sequence[Video], exclude: Sequence[str], include: Sequence[str] = ()
) -> list[str]:
    """Choose participants: `include`, or everyone if it is empty, minus `exclude`.

    Returns:
        Their ids in the order of the sheet.

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


def find_files(listed: Iterable[Listed], root: str | os.PathLike) -> dict[Listed, Path]:
    """Find the file of each video, as `every_file` does.

    Returns:
        The first file that `every_file` gives for each video; its ending is spelled as on the disk.
        A video without a file has the path where it would be looked for first.
    """
    return {path: first_file for path, (first_file, *_) in every_file(listed, root).items()}


def every_file(listed: Iterable[Listed], root: str | os.PathLike) -> dict[Listed, list[Path]]:
    """Find all files of each video. Each folder is listed once, however many videos are in it.

    Args:
        listed: The videos' paths as lists have them (`Video.path`), such as `P01/P01_01.MP4`.
        root: A folder with one of `LAYOUTS`; or a pattern of paths such as `films/{video}.mp4`.

    Returns:
        The files of each video, those of the first layout first. A video without a file has the
        path where it would be looked for first.

    Raises:
        DiskError: The disk fails.
    """
    # The cache lists each folder once, and is forgotten at the end of this call.
    root_text, files_in = os.fspath(root), functools.cache(_files_in)
    is_pattern = "{video}" in root_text
    # The first layout is that of the listed paths themselves, so it needs no pattern.
    patterns = [root_text] if is_pattern else [os.path.join(root_text, p) for p in LAYOUTS[1:]]
    files = dict[Listed, list[Path]]()
    for path in listed:
        participant, video = os.path.split(os.path.splitext(path)[0])
        candidates = [] if is_pattern else [os.path.split(os.path.join(root_text, path))]
        for pattern in patterns:
            candidate = pattern.replace("{participant}", participant).replace("{video}", video)
            candidates.append(os.path.split(candidate))
        existing = [
            file
            for folder, name in candidates
            for file in files_in(folder).get(_with_lower_suffix(name), [])
        ]
        files[path] = existing or [Path(*candidates[0])]
    return files


def films_not_listed(videos: Sequence[Video], root: str | os.PathLike) -> list[Path]:
    """Video files in the folders of `LAYOUTS` that no row of the sheet names, sorted by path."""
    ids = {video.video_id for video in videos}
    participants = dict.fromkeys(video.participant_id for video in videos)
    folders = [Path(root, name) for name in participants]
    folders = [Path(root), *folders, *(folder / "videos" for folder in folders)]
    return sorted(
        file
        for folder in folders
        for files in _files_in(str(folder)).values()
        for file in files
        if file.suffix.lower() in FILMS and file.stem not in ids
    )


def _files_in(folder: str) -> dict[str, list[Path]]:
    """The files of a folder by name with the suffix in lower case; {} if it cannot be listed.

    Two files may have one such name, such as `P01_01.MP4` and `P01_01.mp4`.
    """
    try:
        names = insist(folder, "listing", lambda: os.listdir(folder or "."))
    except OSError:  # The code that opens the file says why.
        return {}
    files: dict[str, list[Path]] = {}
    for name in sorted(names):
        files.setdefault(_with_lower_suffix(name), []).append(Path(folder, name))
    return files


def _with_lower_suffix(name: str) -> str:
    """The name of a file with its suffix in lower case: `P01_01.MP4` gives `P01_01.mp4`."""
    stem, suffix = os.path.splitext(name)
    return stem + suffix.lower()


def found_instead(root: str | os.PathLike) -> str:
    """Say what a folder without any video of the sheet holds: up to three files, or no file."""
    if not os.path.isdir(root):
        return "is a file" if os.path.exists(root) else "no such folder"
    # A folder of an archive may hold millions of files, so only some are looked at.
    files = itertools.islice(filter(Path.is_file, Path(root).rglob("*")), 1000)
    # The key is False for a film, which sorts first.
    films_first = sorted(files, key=lambda path: path.suffix.lower() not in FILMS)
    names = [path.relative_to(root).as_posix() for path in films_first[:3]]
    return f"no video of the sheet, but {', '.join(names)}" if names else "no file in it"


def on_disk_lines(
    videos: Sequence[Video], there: Collection[str], root: str | os.PathLike
) -> Iterator[str]:
    """Report which videos are on disk: one line per split, or one line if all or none are.

    Args:
        videos: All videos that the run needs.
        there: Ids of the videos that are on disk or will be.
        root: The folder that the config names.

    Yields:
        Lines such as `  train: 5 of 9 (all of P01 P02, 1 of 3 of P03, none of P04)`.
    """
    on_disk_count = sum(video.video_id in there for video in videos)
    if on_disk_count == len(videos) or not on_disk_count:
        count_text = f"all {on_disk_count}" if on_disk_count else f"none of the {len(videos)}"
        yield f"{root}: {count_text} videos of the sheet are there"
        return
    yield f"{root}: {on_disk_count} of the {len(videos)} videos of the sheet are there"
    for split in SPLITS:
        videos_of_split = [video for video in videos if video.split == split]
        if videos_of_split:
            yield f"  {split}: {_by_participant(videos_of_split, there)}"


def _by_participant(videos: Sequence[Video], there: Collection[str]) -> str:
    """How many videos are on disk: `5 of 9 (all of P01 P02, 1 of 3 of P03, none of P04)`."""
    # It holds, for each participant, whether each of the participant's videos is on disk.
    presence = {
        name: [video.video_id in there for video in videos if video.participant_id == name]
        for name in dict.fromkeys(video.participant_id for video in videos)
    }
    complete = " ".join(name for name, flags in presence.items() if all(flags))
    absent = " ".join(name for name, flags in presence.items() if not any(flags))
    partial_clauses = [
        f"{sum(flags)} of {len(flags)} of {name}"
        for name, flags in presence.items()
        if any(flags) and not all(flags)
    ]
    clauses = [
        f"all of {complete}" if complete else "",
        *partial_clauses,
        f"none of {absent}" if absent else "",
    ]
    on_disk_count = sum(sum(flags) for flags in presence.values())
    return f"{on_disk_count} of {len(videos)} ({', '.join(filter(None, clauses))})"
