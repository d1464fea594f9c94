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
    """A row of the sheet.

    Attributes:
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
        """First place of the file below a root: `{participant}/{video_id}.MP4`, as in lists."""
        return Path(root, self.participant_id, f"{self.video_id}.MP4")

    def file(self, root: str | os.PathLike) -> Path:
        """Where the file is: see `find_files`."""
        return find_files([self.path()], root)[self.path()]


_ROW = TypeAdapter(Video)


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
        try:
            video = _ROW.validate_python({name: row[name] for name in EXPECTED if name in row})
        except ValidationError as error:
            name = str(error.errors()[0]["loc"][0])
            raise EpicError(
                f"{path}: line {line}: {name} is {row[name]!r}; expected {EXPECTED[name]}"
            ) from error
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


def find_files(listed: Iterable[Listed], root: str | os.PathLike) -> dict[Listed, Path]:
    """Find the files of videos, as `every_file` does.

    Returns:
        The file of each, its ending spelled as on the disk. A video without one has its first
        place, where it is missed.
    """
    return {path: files[0] for path, files in every_file(listed, root).items()}


def every_file(listed: Iterable[Listed], root: str | os.PathLike) -> dict[Listed, list[Path]]:
    """Find all files of videos. Each folder is listed once, however many videos are in it.

    Args:
        listed: The videos' paths as lists have them (`Video.path`).
        root: A folder with one of `LAYOUTS`; or the place of a file, with {video} in it.

    Returns:
        The files of each, those of the first layout first. A video without one has its first place
        alone, where it is missed.

    Raises:
        DiskError: The disk fails.
    """
    text, files_in = os.fspath(root), functools.cache(_files_in)
    is_pattern = "{video}" in text
    patterns = [text] if is_pattern else [os.path.join(text, pattern) for pattern in LAYOUTS[1:]]
    files = dict[Listed, list[Path]]()
    for path in listed:
        participant, video = os.path.split(os.path.splitext(path)[0])
        candidates = [] if is_pattern else [os.path.split(os.path.join(text, path))]
        for pattern in patterns:
            candidate = pattern.replace("{participant}", participant).replace("{video}", video)
            candidates.append(os.path.split(candidate))
        existing = [
            file
            for folder, name in candidates
            for file in files_in(folder).get(_in_any_case(name), [])
        ]
        files[path] = existing or [Path(*candidates[0])]
    return files


def films_not_listed(videos: Sequence[Video], root: str | os.PathLike) -> list[Path]:
    """The films in the folders of `LAYOUTS` that no row of the sheet names, by their path."""
    ids = {video.video_id for video in videos}
    people = dict.fromkeys(video.participant_id for video in videos)
    folders = [Path(root), *(Path(root, name) for name in people)]
    folders += [folder / "videos" for folder in folders[1:]]
    return sorted(
        file
        for folder in folders
        for files in _files_in(str(folder)).values()
        for file in files
        if file.suffix.lower() in FILMS and file.stem not in ids
    )


def _files_in(folder: str) -> dict[str, list[Path]]:
    """What a folder has, by its name with the ending in lower case."""
    try:
        names = insist(folder, "listing", lambda: os.listdir(folder or "."))
    except OSError:  # The code that opens the file says why.
        return {}
    files: dict[str, list[Path]] = {}
    for name in sorted(names):
        files.setdefault(_in_any_case(name), []).append(Path(folder, name))
    return files


def _in_any_case(name: str) -> str:
    stem, ending = os.path.splitext(name)
    return stem + ending.lower()


def found_instead(root: str | os.PathLike) -> str:
    """What is below a folder in which no video of the sheet was found."""
    if not os.path.isdir(root):
        return "is a file" if os.path.exists(root) else "no such folder"
    files = itertools.islice(filter(Path.is_file, Path(root).rglob("*")), 1000)
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
    """
    number = sum(video.video_id in there for video in videos)
    if number == len(videos) or not number:
        count = f"all {number}" if number else f"none of the {len(videos)}"
        yield f"{root}: {count} videos of the sheet are there"
        return
    yield f"{root}: {number} of the {len(videos)} videos of the sheet are there"
    for split in SPLITS:
        videos_of_split = [video for video in videos if video.split == split]
        if videos_of_split:
            yield f"  {split}: {_by_participant(videos_of_split, there)}"


def _by_participant(videos: Sequence[Video], there: Collection[str]) -> str:
    presence = {
        name: [video.video_id in there for video in videos if video.participant_id == name]
        for name in dict.fromkeys(video.participant_id for video in videos)
    }
    whole = " ".join(name for name, flags in presence.items() if all(flags))
    none = " ".join(name for name, flags in presence.items() if not any(flags))
    some = [
        f"{sum(flags)} of {len(flags)} of {name}"
        for name, flags in presence.items()
        if any(flags) and not all(flags)
    ]
    clauses = [f"all of {whole}" if whole else "", *some, f"none of {none}" if none else ""]
    number = sum(map(sum, presence.values()))
    return f"{number} of {len(videos)} ({', '.join(filter(None, clauses))})"
