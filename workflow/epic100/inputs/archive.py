"""The video sheet and the files of its videos: which are there, twice there, or in no sheet."""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from epic100.base.shipped import ROOT, existing_path
from epic100.inputs.lines import MISSING, NOTE, OK, WRONG, Line, some
from epic100.settings import Settings
from epic100.video.sheet import (
    LAYOUTS,
    Video,
    every_file,
    films_not_listed,
    found_instead,
    on_disk_lines,
    participants_of,
    read_sheet,
)

# A film has so many bytes a second, even a small copy of a still scene.
LEAST = 100


@dataclass(frozen=True)
class Archive:
    """The video sheet, and where its videos are.

    Attributes:
        videos: The rows of the sheet.
        chosen: The participants that take part, in the sheet's order.
        every_file: All files of each video by its path in lists. A video without one has its first
            place, where it is missed.
    """

    videos: list[Video]
    chosen: list[str]
    every_file: dict[Path, list[Path]]

    @property
    def needed(self) -> list[Video]:
        """The videos of those who take part."""
        return [video for video in self.videos if video.participant_id in self.chosen]

    @property
    def files(self) -> dict[Path, Path]:
        """The file that is read of each video."""
        return {path: files[0] for path, files in self.every_file.items()}


def find_archive(config: Settings, folder: str | os.PathLike = ROOT) -> Archive:
    """Read the sheet and find its videos.

    Args:
        config: The config of the run.
        folder: Where shipped files are.

    Raises:
        EpicError: The sheet is wrong, or has no participant that the config names.
    """
    videos = read_sheet(existing_path(config.videos.sheet, folder))
    chosen = participants_of(videos, config.participants.exclude, config.participants.include)
    files = every_file([video.path() for video in videos], config.videos.place)
    return Archive(videos, chosen, files)


def archive_lines(config: Settings, archive: Archive) -> Iterator[Line]:
    """Say which videos are there, and what is odd about their files."""
    settings = config.videos
    if config.minikitchen:
        yield Line(OK, "videos", "and annotations are made by the demo")
        return
    files = {video: archive.every_file[video.path()][0] for video in archive.needed}
    there = {video: file for video, file in files.items() if os.path.exists(file)}
    on_disk = [video.video_id for video in there]
    first, *by_split = on_disk_lines(archive.needed, on_disk, settings.root)
    if not on_disk and not settings.download:
        layouts = settings.pattern or ", ".join(LAYOUTS)
        yield Line(
            MISSING,
            "videos",
            f"{settings.root}: {found_instead(settings.root)}; expected {layouts} in it; correct "
            "`videos: root:` in the config, or set `videos: pattern:` or `download: true`",
        )
        return
    fetched = (
        "; the run fetches the others" if settings.download and len(on_disk) < len(files) else ""
    )
    yield Line(OK, "videos", first + fetched)
    for line in by_split:
        yield Line(OK, "videos", line)
    yield from _twice(archive)
    yield from _no_films(there)
    yield from _one_film_under_two_ids(list(there.values()))
    listed_whole = not (settings.pattern or settings.subset)
    if listed_whole and (films := films_not_listed(archive.videos, settings.root)):
        names = some([path.as_posix() for path in films])
        yield Line(
            NOTE,
            "videos",
            f"{settings.sheet} has no row for {len(films)} of the films: {names}; they are not "
            "used: name them as a video_id of the sheet, or add rows",
        )


def _twice(archive: Archive) -> Iterator[Line]:
    """One id with two files: which one is meant cannot be told."""
    for video in archive.needed:
        first, *others = archive.every_file[video.path()]
        for other in others:
            if not first.samefile(other):
                yield Line(
                    WRONG,
                    "videos",
                    f"{video.video_id}: there are two files, {first} and {other}; expected one: "
                    "remove or rename the other",
                )


def _no_films(files: Mapping[Video, Path]) -> Iterator[Line]:
    """What cannot be read, or is too small for a film: a page, a pointer or a begun copy."""
    if odd := [
        file.as_posix()
        for video, file in files.items()
        if not os.access(file, os.R_OK)
        or not file.is_file()
        or file.stat().st_size < LEAST * video.duration
    ]:
        yield Line(
            NOTE,
            "videos",
            f"a folder, not readable by you, or too small for a film: {some(odd)}; their segments "
            "would be left out: correct the permissions, or copy or download them again",
        )


def _one_film_under_two_ids(files: list[Path]) -> Iterator[Line]:
    """Files of one size, to the byte: one may have the name of another's film."""
    by_size = defaultdict(list)
    for file in filter(Path.is_file, files):
        by_size[file.stat().st_size].append(file.as_posix())
    twins = [names for size, names in by_size.items() if size and len(names) > 1]
    if twins:
        names = "; ".join(" and ".join(names) for names in twins[:3])
        more = f"; and {len(twins) - 3} sizes more" if len(twins) > 3 else ""
        yield Line(
            NOTE,
            "videos",
            f"of one size to the byte: {names}{more}: is it one film under two ids? The segments "
            "of one of them would be cut from the other's film",
        )
