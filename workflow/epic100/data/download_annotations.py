"""Download and verify the annotations of a pinned commit, by the URL and checksum of each file."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from epic100.base.atomic import write_text
from epic100.base.disk import Checksum, digest
from epic100.base.errors import URL_WORDS, EpicError, is_url
from epic100.base.text_table import read_table
from epic100.data.fetch import fetch
from epic100.data.official_lists import CLASS_LISTS, DATA_SET, LISTS

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
    missing = [name for name in NAMES.values() if name not in pins]
    if missing:
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
