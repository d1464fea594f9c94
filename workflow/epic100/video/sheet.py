"""The video sheet, which has a row for each video, and the files of videos below their root.

The sheet is there before any video is downloaded, so the DAG is static.
"""

import contextlib
import errno
import functools
import itertools
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from epic100.base.disk import retry_disk
from epic100.base.errors import MD5, NAME, NAME_WORDS, URL_WORDS, EpicError, is_url, meant
from epic100.base.text_table import read_table

REQUIRED = ("video_id", "participant_id", "split", "fps", "duration")
# A video may have any of these paths below the root. A download is saved at the first one, which is
# also the path of the video in lists of segments. Extracted frames (`scan.frames`) come last, so
# that a film next to them is read.
LAYOUTS = (
    "{participant}/{video}.MP4",
    "{participant}/videos/{video}.MP4",
    "{video}.MP4",
    "{participant}/rgb_frames/{video}.tar",
    "{participant}/rgb_frames/{video}",
)
FILMS = (".mp4", ".m4v", ".mov", ".mkv", ".avi", ".webm", ".mts", ".mpg")
SPLITS = ("train", "val", "test")
MAX_FPS, MAX_SECONDS = 10_000.0, 1e6  # Their product, a number of frames, fits into int64.
# These words of error messages say what each column that is read may hold.
EXPECTED = {
    "video_id": NAME_WORDS,
    "participant_id": NAME_WORDS,
    "split": f"one of {', '.join(SPLITS)}",
    "fps": f"a positive number, at most {MAX_FPS:g}",
    "duration": f"a positive number of seconds, at most {MAX_SECONDS:g}",
    "url": f"{URL_WORDS}, or nothing",
    "md5": "32 hexadecimal digits, or nothing",
}

Listed = TypeVar("Listed", str, Path)


def _url_or_nothing(text: str) -> str:
    """Return a text as it is, or raise if it is neither a URL nor ""."""
    if text and not is_url(text):
        raise ValueError(f"expected {EXPECTED['url']}")
    return text


@dataclass(frozen=True)
class Video:
    """A row of the video sheet.

    Attributes:
        video_id: Such as `P01_01`.
        participant_id: Such as `P01`.
        split: One of `SPLITS`.
        fps: Frames per second of the file.
        duration: Length of the video in seconds.
        url: The URL from which the file can be downloaded, or "".
        md5: MD5 of the file, 32 hexadecimal digits, or "".
    """

    video_id: Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
    participant_id: Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
    split: Annotated[str, Field(pattern=f"^({'|'.join(SPLITS)})$")]
    fps: Annotated[float, Field(gt=0, le=MAX_FPS)]
    duration: Annotated[float, Field(gt=0, le=MAX_SECONDS)]
    url: Annotated[str, AfterValidator(_url_or_nothing)] = ""
    md5: Annotated[str, Field(pattern=f"^({MD5.pattern})?$")] = ""

    def path(self, root: str | os.PathLike = "") -> Path:
        """Return the path of a download, which lists have too: `P01/P01_01.MP4` below `root`."""
        return Path(root, self.participant_id, f"{self.video_id}.MP4")

    def file(self, root: str | os.PathLike) -> Path:
        """Find the file on the disk, in any layout and with the suffix in any case."""
        return find_files([self.path()], root)[self.path()]


_ROW = TypeAdapter(Video)


def is_frames(path: str | os.PathLike) -> bool:
    """Whether extracted frames are at a path: a tar, or a folder without a suffix."""
    suffix = os.path.splitext(path)[1].lower()
    return suffix == ".tar" or (not suffix and os.path.isdir(path))


def annotation_rate(video_id: str) -> float:
    """Return the frames per second of a video's annotation clock, whatever the file's own rate.

    It is 60 for EPIC-55 (`P01_01`) and 50 for the extension, whose ids end in three digits
    (`P01_101`). All official CSVs were checked for this.
    """
    _, _, number = video_id.rpartition("_")
    return 50.0 if len(number) == 3 else 60.0


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
            # One error is reported, the first one, by the name of its column.
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
        EpicError: The sheet does not have a participant of the lists, or nobody is left.
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
    """Find the first file of each video; it has the arguments of `every_file`.

    Returns:
        The first file that `every_file` returns for each video, with its suffix as on the disk. For
        a video without a file, the path that is tried first.
    """
    return {path: first_file for path, (first_file, *_) in every_file(listed, root).items()}


def every_file(listed: Iterable[Listed], root: str | os.PathLike) -> dict[Listed, list[Path]]:
    """Find all files of each video. Each folder is listed once, however many videos are in it.

    Args:
        listed: The paths of the videos in lists (`Video.path`), e.g. `P01/P01_01.MP4`.
        root: A folder with one of `LAYOUTS`; or a pattern of paths such as `films/{video}.mp4`.

    Returns:
        The files of each video, the files of the first layout first. For a video without a file,
        the path that is tried first.

    Raises:
        DiskError: The disk fails.
    """
    # The cache is new for each call, since files may come and go between two calls.
    files_in = functools.cache(_files_in)
    root_text = os.fspath(root)
    is_pattern = "{video}" in root_text
    # The listed paths themselves have the first layout, so it needs no pattern.
    patterns = [root_text]
    if not is_pattern:
        patterns = [os.path.join(root_text, layout) for layout in LAYOUTS[1:]]
    files = dict[Listed, list[Path]]()
    for path in listed:
        # The paths that are tried, the first layout first.
        candidates = [] if is_pattern else [os.path.join(root_text, path)]
        participant, video = os.path.split(os.path.splitext(path)[0])
        for pattern in patterns:
            candidate = pattern.replace("{participant}", participant).replace("{video}", video)
            candidates.append(candidate)
        # The files among them.
        existing = list[Path]()
        for candidate in candidates:
            folder, name = os.path.split(candidate)
            existing += files_in(folder).get(_with_lower_suffix(name), [])
        files[path] = existing or [Path(candidates[0])]
    return files


def _files_in(folder: str) -> dict[str, list[Path]]:
    """List the files of a folder by name with the suffix in lower case; {} if it cannot be listed.

    Several files may have one such name: `P01_01.MP4` and `P01_01.mp4`.
    """
    try:
        names = retry_disk(folder, "listing", lambda: os.listdir(folder or "."))
    except OSError:
        # The folder need not exist. Any other error comes again when a file in it is opened.
        return {}
    files: dict[str, list[Path]] = {}
    for name in sorted(names):
        files.setdefault(_with_lower_suffix(name), []).append(Path(folder, name))
    return files


def _with_lower_suffix(name: str) -> str:
    """Turn the suffix of a file name into lower case: `P01_01.MP4` gives `P01_01.mp4`."""
    stem, suffix = os.path.splitext(name)
    return stem + suffix.lower()


def found_instead(root: str | os.PathLike) -> str:
    """Describe a folder without any video of the sheet: by up to three of its files."""
    if not os.path.isdir(root):
        return "is a file" if os.path.exists(root) else "no such folder"
    # A folder of an archive may hold millions of files, so only some are checked.
    files = itertools.islice(filter(Path.is_file, Path(root).rglob("*")), 1000)
    # The key is False for a video, and False sorts before True.
    films_first = sorted(files, key=lambda path: path.suffix.lower() not in FILMS)
    names = [path.relative_to(root).as_posix() for path in films_first[:3]]
    return f"no video of the sheet, but {', '.join(names)}" if names else "no file in it"


def on_disk_lines(
    videos: Sequence[Video], there: Collection[str], root: str | os.PathLike
) -> Iterator[str]:
    """Report which videos are available: a line for each split, or one line if all or none are.

    A video is available if its file is on disk, or will be downloaded.

    Args:
        videos: All videos that the run needs.
        there: Ids of the available videos.
        root: The folder of the videos, as in the config.

    Yields:
        Lines such as `  train: 5 of 9 (all of P01 P02, 1 of 3 of P03, none of P04)`.
    """
    count = sum(video.video_id in there for video in videos)
    if count == len(videos) or not count:
        count_text = f"all {count}" if count else f"none of the {len(videos)}"
        yield f"{root}: {count_text} videos of the sheet are there"
        return
    yield f"{root}: {count} of the {len(videos)} videos of the sheet are there"
    for split in SPLITS:
        videos_of_split = [video for video in videos if video.split == split]
        if videos_of_split:
            yield f"  {split}: {_by_participant(videos_of_split, there)}"


def _by_participant(videos: Sequence[Video], there: Collection[str]) -> str:
    """Count the available videos: `5 of 9 (all of P01 P02, 1 of 3 of P03, none of P04)`."""
    totals = Counter(video.participant_id for video in videos)
    counts = Counter(video.participant_id for video in videos if video.video_id in there)
    complete, clauses, absent = list[str](), list[str](), list[str]()
    for name, total in totals.items():
        if counts[name] == total:
            complete.append(name)
        elif counts[name]:
            clauses.append(f"{counts[name]} of {total} of {name}")
        else:
            absent.append(name)
    if complete:
        clauses.insert(0, f"all of {' '.join(complete)}")
    if absent:
        clauses.append(f"none of {' '.join(absent)}")
    return f"{counts.total()} of {len(videos)} ({', '.join(clauses)})"


# Browsers and programs write a download to a file that ends so until it is complete.
UNFINISHED = (".part", ".crdownload", ".download", ".partial")
# The maximum number of files and folders to check: the root may be a folder of all files of a user.
MAX_FILES = 100_000
# The maximum number of folders between the root and a film.
DEPTH = 4


def unused_files(
    root: str | os.PathLike, used: Collection[Path], skip: Collection[Path]
) -> list[Path]:
    """List films, extracted frames and unfinished downloads that are not used, and broken links.

    Args:
        root: The folder of the videos.
        used: The paths at which the videos of the sheet are expected.
        skip: Folders that are not searched.

    Returns:
        Their paths, sorted.
    """
    unused = []
    for path in itertools.islice(_files_below(os.fspath(root), DEPTH, skip), MAX_FILES):
        if path in used:
            is_reported = _is_broken(path)
        else:
            is_film = path.suffix.lower() in (*FILMS, *UNFINISHED)
            is_reported = is_film or path.parent.name == "rgb_frames"
        if is_reported:
            unused.append(path)
    return sorted(unused)


def _files_below(folder: str, depth: int, skip: Collection[Path]) -> Iterator[Path]:
    """Yield the files below a folder, and for a folder of extracted frames each name in it.

    Args:
        folder: The folder.
        depth: How many levels of folders are entered.
        skip: Files and folders that are left out, with what they contain. Hidden ones and folders
            of optical flow are left out too.
    """
    entries: list[os.DirEntry[str]] = []
    with contextlib.suppress(OSError), os.scandir(folder) as listing:
        entries = sorted(listing, key=lambda entry: entry.name)
    for entry in entries:
        path = Path(entry.path)
        if entry.name.startswith(".") or path in skip or entry.name == "flow_frames":
            continue
        is_folder = path.is_dir() if entry.is_symlink() else entry.is_dir()
        # A folder of frames has a file for each frame, and is one thing.
        if not is_folder or os.path.basename(folder) == "rgb_frames":
            yield path
        elif depth:
            yield from _files_below(entry.path, depth - 1, skip)


def _is_broken(path: Path) -> bool:
    """Whether a path is a link to nothing."""
    return os.path.islink(path) and not os.path.exists(path)


def why_unused(path: Path, videos: Sequence[Video], root: str | os.PathLike) -> str:
    """Say why a file of `unused_files` is not used: `Ben/ben_1.MP4: the sheet has ben`."""
    relative = path.relative_to(root)
    if _is_broken(path):
        reason = "a link to a file that is gone"
        try:
            path.stat()
        except OSError as error:
            if error.errno == errno.ELOOP:
                reason = "a link to itself"
    elif path.suffix.lower() in UNFINISHED:
        reason = "an unfinished download"
    else:
        reason = _nearest(relative, videos)
    return f"{relative.as_posix()}: {reason}"


def _nearest(relative: Path, videos: Sequence[Video]) -> str:
    """Say which participant or video of the sheet is nearest to a path below the root."""
    # `Ben/ben_1.MP4` is below the folder `Ben`.
    *folders, name = relative.parts
    participants = {video.participant_id for video in videos}
    if folders and folders[0] not in participants:
        participant = meant(folders[0], participants)
        if participant:
            return f"the sheet has {participant}"
    path_of_id = {video.video_id: video.path() for video in videos}
    video_id = name.partition(".")[0]
    if video_id in path_of_id:
        return f"expected at {path_of_id[video_id]}"
    nearest_id = meant(video_id, path_of_id)
    return f"the sheet has {nearest_id}" if nearest_id else "nothing like it in the sheet"
