"""Find the files below the root of the videos that no row of the sheet uses, and say why."""

import contextlib
import errno
import itertools
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from epic100.base.errors import meant
from epic100.video.sheet import FILMS, Video

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
    files = itertools.islice(_files_below(os.fspath(root), DEPTH, skip), MAX_FILES)
    return sorted(
        path
        for path, is_link in files
        if (is_link and is_broken(path) if path in used else _is_meant_as_video(path))
    )


def why_unused(path: Path, videos: Sequence[Video], root: str | os.PathLike) -> str:
    """Say why a file of `unused_files` is not used: `Ben/ben_1.MP4: the sheet has ben`."""
    relative = path.relative_to(root)
    if is_broken(path):
        reason = _where_it_leads(path)
    elif path.suffix.lower() in UNFINISHED:
        reason = "an unfinished download"
    else:
        reason = _nearest(relative, {video.video_id: video for video in videos})
    return f"{relative.as_posix()}: {reason}"


def _nearest(relative: Path, videos: Mapping[str, Video]) -> str:
    """Say which participant or video of the sheet is nearest to a path below the root."""
    *folders, name = relative.parts
    video_id = name.partition(".")[0]
    participants = {video.participant_id for video in videos.values()}
    if folders and folders[0] not in participants and (nearest := meant(folders[0], participants)):
        return f"the sheet has {nearest}"
    if video_id in videos:
        return f"expected at {videos[video_id].path()}"
    nearest = meant(video_id, videos)
    return f"the sheet has {nearest}" if nearest else "nothing like it in the sheet"


def is_broken(path: Path) -> bool:
    """Whether a path is a link to nothing."""
    return os.path.islink(path) and not os.path.exists(path)


def _files_below(folder: str, depth: int, skip: Collection[Path]) -> Iterator[tuple[Path, bool]]:
    """Yield the files and folders of frames below a folder, and whether each is a link."""
    entries: list[os.DirEntry[str]] = []
    with contextlib.suppress(OSError), os.scandir(folder) as listing:
        entries = sorted(listing, key=lambda entry: entry.name)
    for entry in entries:
        path = Path(entry.path)
        is_folder = entry.is_dir(follow_symlinks=False) or (
            entry.is_symlink() and os.path.isdir(path)
        )
        if entry.name.startswith(".") or path in skip or entry.name == "flow_frames":
            continue
        # A folder of frames has a file for each frame, and is one thing.
        if not is_folder or os.path.basename(folder) == "rgb_frames":
            yield path, entry.is_symlink()
        elif depth:
            yield from _files_below(entry.path, depth - 1, skip)


def _is_meant_as_video(path: Path) -> bool:
    """Whether a file may have been put there as a video."""
    if path.parent.name == "rgb_frames":
        return True
    return path.suffix.lower() in (*FILMS, *UNFINISHED)


def _where_it_leads(path: Path) -> str:
    """Say where a broken link leads to."""
    try:
        os.stat(path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "a link to itself"
    return "a link to a file that is gone"
