"""Download annotations and videos, and check them against the checksums in their sheets.

The sheet of annotation files has the URL and checksum of each official file at a pinned commit. A
download is compared with its checksum before the file gets its name. For any other video file the
scan computes the md5, since it reads every byte anyway; nothing is read a second time.
"""

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from epic100.base.atomic import write_text
from epic100.base.disk import Checksum, digest
from epic100.base.errors import URL_WORDS, EpicError, is_url, some
from epic100.base.text_table import read_table
from epic100.data.fetch import fetch
from epic100.data.official_lists import CLASS_LISTS, DATA_SET, LISTS
from epic100.video.sheet import Video

log = logging.getLogger(__name__)

OWN_DATA = "annotations of our own"
COLUMNS = ("name", "url", "checksum")
# The official files are named by their keys in the config's `annotations:` and `evaluate:`.
NAMES = {
    "train": "EPIC_100_train.csv",
    "val": "EPIC_100_validation.csv",
    "test": "EPIC_100_test_timestamps.csv",
} | {key: name for key, (name, _) in {**LISTS, **CLASS_LISTS}.items()}


@dataclass(frozen=True)
class Pinned:
    """A row of the sheet of annotation files.

    Attributes:
        name: The name of the official file, e.g. `EPIC_100_train.csv`.
        url: The URL of the pinned version of the file, or "".
        checksum: The checksum of this version.
    """

    name: str
    url: str
    checksum: Checksum


def read_pins(path: str | os.PathLike) -> dict[str, Pinned]:
    """Read the sheet of annotation files; those that are not in `NAMES` are skipped.

    Returns:
        The row of each official file, by its key in `NAMES`.

    Raises:
        EpicError: A row is invalid (the message names file and line), or an official file has
            no row.
    """
    about = "the sheet of annotation files (`annotations: sheet:`), tab-separated " + " ".join(
        COLUMNS
    )
    pins = {}
    for line, row in read_table(path, COLUMNS, about=about):
        if row["url"] and not is_url(row["url"]):
            raise EpicError(
                f"{path}: line {line}: url is {row['url']!r}; expected {URL_WORDS}, or nothing"
            )
        checksum = Checksum.parse(row["checksum"], f"{path}: line {line}")
        pins[row["name"]] = Pinned(row["name"], row["url"], checksum)
    if missing := [name for name in NAMES.values() if name not in pins]:
        raise EpicError(f"{path}: no row of {', '.join(missing)}; expected {about}")
    return {key: pins[name] for key, name in NAMES.items()}


def data_name(
    val_csv: str | os.PathLike, checksum_sheet: str | os.PathLike, name: str | None = None
) -> str:
    """Return the name of the data set, for descriptions of models and results.

    Args:
        val_csv: The val annotations.
        checksum_sheet: The sheet of annotation files, with the official checksum.
        name: The config's `annotations: name:`.

    Returns:
        `name` if it is set. If not, `EPIC-KITCHENS-100` if the val annotations have the checksum of
        the official file. If they have another one, `OWN_DATA`.
    """
    if name:
        return name
    checksum = read_pins(checksum_sheet)["val"].checksum
    return DATA_SET if digest(val_csv, checksum.algorithm) == checksum else OWN_DATA


def download_annotations(files: Mapping[str, str], sheet: str | os.PathLike) -> None:
    """Download annotation files from the URLs of the sheet.

    Args:
        files: The path of each file, by key of `NAMES`.
        sheet: The sheet of annotation files.

    Raises:
        EpicError: The sheet is wrong (`read_pins`), or a download fails (`fetch`).
    """
    pins = read_pins(sheet)
    for key, path in files.items():
        fetch(pins[key].url, Path(path), pins[key].checksum)
        log.info(f"{path}: {pins[key].checksum}, as {sheet} says")


def verify_annotations(
    files: Mapping[str, str], sheet: str | os.PathLike, out: str | os.PathLike
) -> None:
    """Check that all annotation files are the pinned ones, and write `annotations.ok`.

    That file has a line for each annotation file: `data/EPIC_100_train.csv md5 0123...`.

    Args:
        files: The path of each file, by key of `NAMES`.
        sheet: The sheet of annotation files.
        out: The file to write, `results/annotations.ok`.

    Raises:
        EpicError: A checksum differs; the message names all files of which it does.
    """
    pins = read_pins(sheet)
    checksums = {key: digest(path, pins[key].checksum.algorithm) for key, path in files.items()}
    wrong = [
        f"{files[key]} ({checksum}, expected {pins[key].checksum.value})"
        for key, checksum in checksums.items()
        if checksum != pins[key].checksum
    ]
    if wrong:
        raise EpicError(
            f"{out}: not written: not the files of {sheet}: {'; '.join(wrong)}; with `annotations: "
            "download: true` they are fetched once these are removed"
        )
    write_text(out, "".join(f"{files[key]} {checksum}\n" for key, checksum in checksums.items()))
    log.info(f"{len(checksums)} annotation files are the pinned ones")


VERIFIED, WRONG, UNVERIFIED = "verified", "wrong", "unverified"
NAMED = 5  # The maximum number of videos that an error names.


def download_video(video: Video, root: str | os.PathLike) -> None:
    """Download a video into the folder of its participant, and compare its md5 with the sheet's.

    Args:
        video: The row of the sheet, with a URL.
        root: Folder of the videos.

    Raises:
        EpicError: A file of that name exists, which a download must not overwrite; or the download
            fails (`fetch`).
    """
    path = video.path(root)
    if os.path.lexists(path):
        raise EpicError(
            f"{path}: there already; a download writes over nothing: run again to have it "
            "verified, or remove it to have it fetched"
        )
    checksum = Checksum("md5", video.md5.lower()) if video.md5 else None
    fetch(video.url, path, checksum)
    verdict = "md5 as the sheet says" if checksum else "the sheet has no md5 to hold it to"
    log.info(f"{video.video_id}: {verdict}")


def write_videos_ok(
    videos: Sequence[Video], tables: Sequence[str | os.PathLike], out: str | os.PathLike
) -> None:
    """Check that each video is readable and has the md5 of the sheet, and write `videos.ok`.

    The file has one sentence: `700 videos: 690 verified, 10 unverified`.

    Args:
        videos: The rows of the sheet.
        tables: The scan tables of these videos.
        out: The file to write, `results/videos.ok`.

    Raises:
        EpicError: Some videos are wrong, unreadable or missing; the message counts and names them.
    """
    # The rules import this module, and Snakemake's environment may be without NumPy.
    from epic100.video.scan_table import read_scan_table

    rows = {row.video_id: row for table in tables for row in read_scan_table(table)}
    counts: Counter[str] = Counter()
    # The videos that are not what the sheet says, e.g. `P01_01 wrong`.
    bad_videos = []
    for video in videos:
        row = rows[video.video_id]
        if not row.readable:
            state = row.status
        elif not video.md5:
            state = UNVERIFIED
        elif row.md5 == video.md5.lower():
            state = VERIFIED
        else:
            state = WRONG
        counts[state] += 1
        if state not in (VERIFIED, UNVERIFIED):
            bad_videos.append(f"{video.video_id} {state}")
    counts_text = ", ".join(f"{count} {state}" for state, count in counts.items())
    summary = f"{len(videos)} videos: {counts_text}"
    if bad_videos:
        raise EpicError(
            f"{out}: not written: {len(bad_videos)} of {len(videos)} videos are not what the sheet "
            f"says: {some(bad_videos, NAMED)}; all are in "
            f"{Path(tables[0]).parent}/*.tsv; with `videos: download: true` what is missing is "
            "fetched, and a wrong file once it is removed"
        )
    write_text(out, f"{summary}\n")
    log.info(summary)
