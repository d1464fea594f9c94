"""Text tables with a header, tab- or comma-separated: one writer, one reader, one set of errors."""

import csv
import io
import os
import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epic100.base.atomic import atomic_path
from epic100.base.disk import reading
from epic100.base.errors import EpicError

if TYPE_CHECKING:  # The rules read tables, and Snakemake's environment may have no pandas.
    import pandas as pd

# The maximum number of bytes of a table. The largest official CSV has 2**23.
LARGEST = 2**26
# The maximum numbers of fields and columns of a table. Each line counts as FIELDS_PER_LINE more
# fields, since it takes as much memory besides its own. The largest official CSV has 67,000 lines
# of 15 fields.
MAX_FIELDS, FIELDS_PER_LINE, MAX_COLUMNS = 2**23, 8, 1000
# Files of other types by their first bytes, with the remedy.
PACKED = {
    b"\x1f\x8b": "packed by gzip: unpack it",
    b"\xff\xfe": "UTF-16: save it as UTF-8",
    b"\xfe\xff": "UTF-16: save it as UTF-8",
    b"PK": "a zip or a spreadsheet: unpack it, or save it as CSV",
    b"\x80": "a pickle: take the file of this name that ends in .csv",
}
# A download may leave something else in a table's place. Its first line begins with one of these,
# in lower case.
FILE_TYPE_BY_BEGINNING = {
    "<?xml": "a web page: fetch the file itself (of GitHub, its raw address)",
    "<!doctype": "a web page: fetch the file itself (of GitHub, its raw address)",
    "<html": "a web page: fetch the file itself (of GitHub, its raw address)",
    "version https://git-lfs": "a pointer of git-lfs in the file's place: run `git lfs pull`",
}
# A spreadsheet may write any of these between the fields of a line.
SEPARATORS = {";": "semicolons", ",": "commas", "\t": "tabs"}
# A spreadsheet runs a text that begins so as a formula, unless an apostrophe stands before it. Some
# spreadsheets skip blanks, or treat the wide signs of East Asian text like the plain ones.
FORMULA = re.compile(r"['\s]*[=+@\-\uff1d\uff0b\uff20\uff0d]")


def write_table(
    path: str | os.PathLike,
    columns: Sequence[str],
    rows: Iterable[Iterable[Any]],
    delimiter: str = "\t",
) -> None:
    """Write a table atomically."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
        writer.writerows([_cell(value) for value in row] for row in [columns, *rows])


def write_frame(frame: "pd.DataFrame", path: str | os.PathLike, **form: Any) -> None:
    """Write a data frame as a tab-separated table atomically.

    Args:
        frame: The data frame.
        path: The file to write.
        **form: Options for pandas' `to_csv`.
    """
    with atomic_path(path) as temporary:
        frame.map(_cell).to_csv(temporary, sep="\t", index=False, **form)


def read_frame(path: str | os.PathLike, **form: Any) -> "pd.DataFrame":
    """Read a tab-separated table that this workflow wrote.

    Args:
        path: The file.
        **form: Options for `pandas.read_csv`.
    """
    import pandas as pd

    with reading(path) as file:
        return pd.read_csv(file, sep="\t", **form).map(
            lambda value: _text_of_cell(value) if isinstance(value, str) else value
        )


def read_table(
    path: str | os.PathLike, columns: Sequence[str], *, about: str, delimiter: str = "\t"
) -> list[tuple[int, dict[str, str]]]:
    """Read a table as rows of text; blank lines are skipped.

    Args:
        path: The file, UTF-8, with or without a byte order mark.
        columns: Columns that the header must have. More are allowed.
        about: What the file is and where it comes from, for errors.
        delimiter: Separator of fields.

    Returns:
        For each row, the number of the line where it begins, and its texts by column. Fields that
        are missing at the end of a row are "".

    Raises:
        EpicError: No such file, not UTF-8, unclosed quotes, a missing or duplicate column, or too
            many fields. The message names file and line.
    """
    path = Path(path)
    if not path.is_file():
        reason = "is a folder" if path.is_dir() else "no such file"
        raise EpicError(f"{path}: {reason}; expected {about}")
    reject_large(path, about)
    rows: list[tuple[int, dict[str, str]]] = []
    try:
        with reading(path) as file:
            beginning = file.peek(1000)[:1000].decode(errors="replace").lstrip().lower()
            for begin, file_type in FILE_TYPE_BY_BEGINNING.items():
                if beginning.startswith(begin):
                    raise EpicError(f"{path}: is {file_type}; expected {about}")
            # Spreadsheets write a byte order mark, which `-sig` skips. It would become part of a
            # column name.
            text = io.TextIOWrapper(file, "utf-8-sig", newline="")
            reader, line = csv.reader(text, delimiter=delimiter, strict=True), 1
            header = next(reader, [])
            _check_header(path, header, columns, about, delimiter)
            # A row may have several lines, if quotes hold line breaks. `line_num` is its last one,
            # so the next row begins one later.
            line = reader.line_num + 1
            for fields in reader:
                if len(fields) > len(header):
                    raise EpicError(
                        f"{path}: line {line}: {len(fields)} fields, the header has {len(header)}; "
                        f"expected {about}"
                    )
                if (len(rows) + 1) * (len(header) + FIELDS_PER_LINE) > MAX_FIELDS:
                    raise csv.Error(f"no table of this field has so many lines of {len(header)}")
                if fields:
                    fields += [""] * (len(header) - len(fields))
                    rows.append((line, dict(zip(header, fields, strict=True))))
                line = reader.line_num + 1
    except UnicodeDecodeError as error:
        file_types = [
            file_type for begin, file_type in PACKED.items() if error.object.startswith(begin)
        ]
        reason = file_types[0] if file_types and not rows else str(error)
        raise EpicError(f"{path}: not UTF-8 text ({reason}); expected {about}") from error
    except csv.Error as error:
        raise EpicError(f"{path}: line {line}: {error}; expected {about}") from error
    return rows


def read_own_table(
    path: str | os.PathLike,
    parsers: Mapping[str, Callable[[str], Any]],
    *,
    about: str,
    delimiter: str = "\t",
    optional: Container[str] = (),
) -> list[dict[str, Any]]:
    """Read a table, such as one that this workflow wrote, and convert the texts to values.

    Args:
        path: The file.
        parsers: A function for each column that converts a text to a value, e.g. `int`, or raises
            ValueError.
        about: What the file is and how it is made again, for errors.
        delimiter: Separator of fields.
        optional: Columns that files of earlier versions do not have; their text is "" then.

    Returns:
        The values of each row by column.

    Raises:
        EpicError: The table cannot be read (`read_table`), or a text cannot be converted, so the
            file is damaged or was edited. The message names file, line and column.
    """
    rows = []
    columns = [name for name in parsers if name not in optional]
    for line, texts in read_table(path, columns, about=about, delimiter=delimiter):
        row = {}
        for name, parse in parsers.items():
            try:
                row[name] = parse(_text_of_cell(texts.get(name, "")))
            except ValueError as error:
                raise EpicError(
                    f"{path}: line {line}: {name} is {texts[name][:80]!r}; expected {about}"
                ) from error
        rows.append(row)
    return rows


def reject_large(path: Path, about: str) -> None:
    """Raise EpicError if `path` is larger than any table of this field (64 MiB)."""
    size = path.stat().st_size
    if size > LARGEST:
        raise EpicError(
            f"{path}: {size / 2**20:.0f} MiB; expected {about}, of {LARGEST >> 20} MiB at most"
        )


def _check_header(
    path: Path, header: list[str], columns: Sequence[str], about: str, delimiter: str
) -> None:
    """Raise an error if one of `columns` is missing in the header, or is there twice."""
    if len(header) > MAX_COLUMNS:
        # The caller adds path and line to this error, as to the errors of the csv module.
        raise csv.Error(f"{len(header)} columns, at most {MAX_COLUMNS}")
    missing = [name for name in columns if name not in header]
    if missing:
        found = ", ".join(header)[:1000] or "an empty line"
        others = [sign for sign in SEPARATORS if len(header) == 1 and header[0].count(sign) > 1]
        if not path.stat().st_size:
            found = "nothing, the file is empty"
        elif others:
            found = f"{SEPARATORS[others[0]]} between the fields: save it with "
            found += SEPARATORS[delimiter]
        raise EpicError(
            f"{path}: line 1: column {', '.join(missing)} missing (found: {found}); "
            f"expected {about}"
        )
    duplicates = [name for name in columns if header.count(name) > 1]
    if duplicates:
        raise EpicError(
            f"{path}: line 1: column {', '.join(duplicates)} is there twice; expected {about}"
        )


def _cell(value: Any) -> Any:
    """Return a value as a cell: a text that a spreadsheet would run gets an apostrophe in front."""
    if isinstance(value, str):
        # A spreadsheet begins a row after this sign, for which no writer quotes a cell.
        value = value.replace("\r\n", "\n").replace("\r", "\n")
    if isinstance(value, str) and FORMULA.match(value):
        # A negative number such as -1 begins like a formula but is none. It stays.
        with suppress(ValueError):
            float(value)
            return value
        return f"'{value}"
    return value


def _text_of_cell(text: str) -> str:
    """Return the text that `_cell` made this cell of: without the apostrophe in front."""
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text
