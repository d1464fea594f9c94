"""Find the files of the video sheet's videos, and report missing, doubled and unlisted ones.

A report consists of lines (`Line`), as those of the other inputs.
"""

import contextlib
import itertools
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

from epic100.base.errors import some
from epic100.base.shipped import ROOT, existing_path
from epic100.settings.config import Settings
from epic100.video.sheet import (
    LAYOUTS,
    Video,
    every_file,
    found_instead,
    is_frames,
    on_disk_lines,
    participants_of,
    read_sheet,
    unused_files,
    why_unused,
)

WRONG, MISSING, NOTE, OK = "WRONG", "MISSING", "note", "ok"
# Maximum number of files or sizes that a line names.
SHOWN = 3
# Minimum bytes per second of a video file, even if it is a small copy of a still scene.
MIN_BYTES_PER_SECOND = 100


class Line(NamedTuple):
    """A line about one input of a run, as `epic100 check` prints it.

    Attributes:
        state: `WRONG` stops every run, `MISSING` one that needs the file; `NOTE` and `OK` none.
        topic: The section of the config that names the input.
        words: The file, what is wrong with it, and what to do.
    """

    state: str
    topic: str
    words: str


@dataclass(frozen=True)
class Archive:
    """The rows of the video sheet, and the files of its videos.

    Attributes:
        videos: The rows of the sheet.
        chosen: The participants that take part, in the sheet's order.
        every_file: All files of each video by its path in lists, `P01/P01_01.MP4`. A video without
            a file has the path where it would be expected first.
    """

    videos: list[Video]
    chosen: list[str]
    every_file: dict[Path, list[Path]]

    @property
    def needed(self) -> list[Video]:
        """The videos of the participants that take part."""
        return [video for video in self.videos if video.participant_id in self.chosen]

    @property
    def files(self) -> dict[Path, Path]:
        """The first file of each video, which is the one that is read, by the path in lists."""
        return {path: files[0] for path, files in self.every_file.items()}


def find_archive(config: Settings, folder: str | os.PathLike = ROOT) -> Archive:
    """Read the sheet, and find the files of its videos.

    Args:
        config: The config of the run.
        folder: The folder of the files that ship with the workflow.

    Raises:
        EpicError: The sheet is wrong, or has no participant that the config names.
    """
    videos = read_sheet(existing_path(config.videos.sheet, folder))
    chosen = participants_of(videos, config.participants.exclude, config.participants.include)
    files = every_file([video.path() for video in videos], config.videos.place)
    return Archive(videos, chosen, files)


def archive_lines(config: Settings, archive: Archive) -> Iterator[Line]:
    """Report which videos have a file, and files that are doubled, odd or not used."""
    settings = config.videos
    if config.minikitchen:
        yield Line(OK, "videos", "and annotations are made by the demo")
        return
    # The first file of each video is the one that is read.
    files = {video: archive.every_file[video.path()][0] for video in archive.needed}
    # Each file is checked once, since the disk of a cluster may take milliseconds for an answer.
    stats: dict[Path, os.stat_result] = {}
    for file in files.values():
        with contextlib.suppress(OSError):  # The file is missing, or its folder cannot be entered.
            stats[file] = file.stat()
    on_disk = {video.video_id: file for video, file in files.items() if file in stats}
    yield from _unused_lines(archive, config)
    if not on_disk and not settings.download:
        yield Line(
            MISSING,
            "videos",
            f"{settings.root}: {found_instead(settings.root)}; expected "
            f"{settings.pattern or ', '.join(LAYOUTS)} in it; correct `videos: root:` in the "
            "config, or set `videos: pattern:` or `download: true`",
        )
        return
    texts = list(on_disk_lines(archive.needed, on_disk, settings.root))
    if settings.download and len(on_disk) < len(files):
        texts[0] += "; the run fetches the others"
    for text in texts:
        yield Line(OK, "videos", text)
    yield from _videos_with_two_files(archive)
    yield from _files_that_are_no_films(files, stats)
    yield from _films_of_one_size(stats)
    # A model without validation has no metrics.
    of_val = {video.video_id for video in archive.needed if video.split == "val"}
    is_expected = not (settings.download or settings.subset)
    if of_val and is_expected and of_val.isdisjoint(on_disk):
        yield Line(
            MISSING,
            "val",
            f"{settings.root}: none of the {len(of_val)} videos of val is there, such as "
            f"{min(of_val)}, and a model without validation has no metrics; put one there, or set "
            "`videos: subset: true` if that is meant",
        )


def _unused_lines(archive: Archive, config: Settings) -> Iterator[Line]:
    """Report the files below the root that are not used, with the reason of the first few.

    If the sheet is smaller than the archive on purpose, the unused files of its own videos are
    reported.
    """
    settings = config.videos
    used = set(itertools.chain.from_iterable(archive.every_file.values()))
    skipped = [Path("results")]
    if settings.proxy:
        skipped.append(Path(settings.proxy.root))
    ids = {video.video_id.lower() for video in archive.videos}
    unused = []
    for path in unused_files(settings.root, used, skipped):
        is_of_sheet = path.name.partition(".")[0].lower() in ids
        # The next run goes on with a download of this workflow.
        is_download = settings.download and path.suffix == ".part"
        if (is_of_sheet or not settings.subset) and not is_download:
            unused.append(path)
    if unused:
        reasons = [why_unused(path, archive.videos, settings.root) for path in unused[:SHOWN]]
        if len(unused) > SHOWN:
            reasons.append(f"and {len(unused) - SHOWN} more")
        yield Line(
            NOTE,
            "videos",
            f"{settings.root}: {len(unused)} of its files are used by no row of {settings.sheet} "
            f"({'; '.join(reasons)}): rename or copy them again, or add rows",
        )


def _videos_with_two_files(archive: Archive) -> Iterator[Line]:
    """Report videos with two files, because nobody can tell which one is meant.

    Extracted frames next to a film are another form of it, so the film is read.
    """
    with_frames = 0
    for video in archive.needed:
        first, *others = archive.every_file[video.path()]
        with_frames += not is_frames(first) and any(map(is_frames, others))
        for other in others:
            if is_frames(first) == is_frames(other) and not first.samefile(other):
                yield Line(
                    WRONG,
                    "videos",
                    f"{video.video_id}: there are two files, {first} and {other}; expected one: "
                    "remove or rename the other",
                )
    if with_frames:
        yield Line(
            NOTE,
            "videos",
            f"{with_frames} have a film and extracted frames: the film is read; for the frames, "
            "set `videos: pattern: '{participant}/rgb_frames/{video}.tar'`",
        )


def _files_that_are_no_films(
    files: Mapping[Video, Path], stats: Mapping[Path, os.stat_result]
) -> Iterator[Line]:
    """Report files that cannot be read or are too small: a web page, an interrupted download."""
    odd = []
    for video, file in files.items():
        if file not in stats or is_frames(file):
            continue
        is_file = S_ISREG(stats[file].st_mode) and os.access(file, os.R_OK)
        if not is_file or stats[file].st_size < MIN_BYTES_PER_SECOND * video.duration:
            odd.append(file.as_posix())
    if odd:
        yield Line(
            NOTE,
            "videos",
            f"a folder, not readable by you, or too small for a film: {some(odd)}; their segments "
            "would be left out: correct the permissions, or copy or download them again",
        )


def _films_of_one_size(stats: Mapping[Path, os.stat_result]) -> Iterator[Line]:
    """Report files of exactly the same size: they may be the same film under two ids."""
    by_size = defaultdict(list)
    for file, stat in stats.items():
        if S_ISREG(stat.st_mode) and stat.st_size:
            by_size[stat.st_size].append(file.as_posix())
    twins = [" and ".join(names) for names in by_size.values() if len(names) > 1]
    if twins:
        shown = twins[:SHOWN]
        if len(twins) > SHOWN:
            shown.append(f"and {len(twins) - SHOWN} sizes more")
        yield Line(
            NOTE,
            "videos",
            f"of one size to the byte: {'; '.join(shown)}: is it one film under two "
            "ids? The segments of one of them would be cut from the other's film",
        )
