"""Tables of text with a header, tab- or comma-separated: one reader, one set of errors."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from epic100.base.errors import EpicError

LARGEST = 2**28  # bytes; the largest official CSV has 2**23


def read_table(
    path: str | os.PathLike, columns: Sequence[str], *, about: str, delimiter: str = "\t"
) -> list[tuple[int, dict[str, str]]]:
    """Rows as (line of the file where the row begins, text by column), blank lines left out.

    `columns` must be in the header; more may be. Fields that lack at a row's end are "". `about`
    says in errors what the file is and where it comes from. Raises EpicError naming file and line:
    no such file, not UTF-8, quotes that do not close, a column missing or twice, too many fields.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise EpicError(f"{path}: {what}; expected {about}")
    refuse_large(path, about)
    rows = []
    try:
        # -sig: spreadsheets put a byte order mark first, which would become part of a name.
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader, line = csv.reader(handle, delimiter=delimiter, strict=True), 1
            header = next(reader, [])
            _check_header(path, header, columns, about)
            line = reader.line_num + 1
            for fields in reader:
                if len(fields) > len(header):
                    raise EpicError(
                        f"{path}: line {line}: {len(fields)} fields, the header has {len(header)}; "
                        f"expected {about}"
                    )
                if fields:
                    fields += [""] * (len(header) - len(fields))
                    rows.append((line, dict(zip(header, fields, strict=True))))
                line = reader.line_num + 1
    except UnicodeDecodeError as error:
        raise EpicError(f"{path}: not UTF-8 text ({error}); expected {about}") from error
    except csv.Error as error:
        raise EpicError(f"{path}: line {line}: {error}; expected {about}") from error
    return rows


def refuse_large(path: Path, about: str) -> None:
    """Raise EpicError where `path` is larger than any table of this field."""
    size = path.stat().st_size
    if size > LARGEST:
        raise EpicError(
            f"{path}: {size / 2**20:.0f} MiB; expected {about}, of {LARGEST >> 20} MiB at most"
        )


def _check_header(path: Path, header: list[str], columns: Sequence[str], about: str) -> None:
    missing = [name for name in columns if name not in header]
    if missing:
        found = ", ".join(header) or "an empty line"
        raise EpicError(
            f"{path}: line 1: column {', '.join(missing)} missing (found: {found}); "
            f"expected {about}"
        )
    twice = [name for name in columns if header.count(name) > 1]
    if twice:
        raise EpicError(f"{path}: line 1: column {', '.join(twice)} stands twice; expected {about}")
