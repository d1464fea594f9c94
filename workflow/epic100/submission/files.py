"""The files of a submission: its entries, the `.pt` of the official tools, the server's `.zip`.

Format: epic-kitchens/C1-Action-Recognition, README.md and utils/challenge.py.
"""

import json
import os
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo

from epic100.base.atomic import atomic_path
from epic100.base.disk import reading
from epic100.base.errors import EpicError
from epic100.base.foreign_tensors import read_foreign
from epic100.base.text_table import read_table
from epic100.segments.official_lists import TASKS
from epic100.submission.check import OUTPUTS, shortened, some_of

PathLike = str | os.PathLike

MEMBER = "test.json"
# The file test.json has at most so many bytes. That of EPIC-100 test has about 100 MiB.
LARGEST = 2**28
# The first limits objects and lists, the second limits values. An object needs 100 times its bytes
# in memory.
MOST_OPENED, MOST_VALUES = 200_000, 10_000_000


def _scores(scores: dict[str, Any]) -> np.ndarray:
    """The scores of an object by class, float32, sorted by class."""
    classes = [str(number) for number in range(len(scores))]
    if missing := next((key for key in classes if key not in scores), None):
        raise ValueError(f"no class {missing} among its {len(scores)} classes")
    values = [scores[key] for key in classes]
    if wrong := next((value for value in values if type(value) not in (float, int)), None):
        raise ValueError(f"{wrong!r:.40} instead of a number")
    try:
        # A float too large for float32 becomes infinity, which `check` reports.
        with np.errstate(over="ignore"):
            return np.array(values, dtype=np.float64).astype(np.float32)
    except OverflowError as error:
        raise ValueError("a number beyond floats") from error


def _noted(narration_id: str, info: ValidationInfo) -> str:
    """Note each id in the order of the file, since a dict keeps the last of two that are equal."""
    if info.context is not None:
        info.context.append(narration_id)
    return narration_id


Scores = Annotated[dict[str, Any], AfterValidator(_scores)]
Level = Annotated[int, Field(ge=0, le=5)]
SUBMISSION = ConfigDict(strict=True, extra="forbid")


class Result(BaseModel):
    """The scores of one segment, in `test.json`."""

    model_config = SUBMISSION
    verb: Scores
    noun: Scores


class Head(BaseModel):
    """What `test.json` says of itself. Supervision levels: github.com/epic-kitchens/sls."""

    model_config = SUBMISSION
    version: Literal["0.2"]
    challenge: Literal["action_recognition"]
    sls_pt: Level
    sls_tl: Level
    sls_td: Level


class Submitted(Head):
    """All that `test.json` holds."""

    results: dict[Annotated[str, AfterValidator(_noted)], Result]


def build(narration_ids: Sequence[str], verb: torch.Tensor, noun: torch.Tensor) -> list[dict]:
    """Make the entries of a submission.

    Args:
        narration_ids: N ids.
        verb: Scores [N, V], rows in the order of the ids.
        noun: Scores [N, M], rows in the order of the ids.

    Returns:
        One dict per segment, in the same order: `narration_id` (str), `verb_output` (float32 [V])
        and `noun_output` (float32 [M]). Each tensor owns its row and shares no larger storage.
    """
    return [
        {"narration_id": str(narration_id), "verb_output": _row(v), "noun_output": _row(n)}
        for narration_id, v, n in zip(narration_ids, verb, noun, strict=True)
    ]


def read_submission(path: PathLike) -> list[dict]:
    """Read a submission: a `.zip` of the server, or a `.pt` or `.pkl` in an official layout.

    Returns:
        Entries like those of `build`. Shapes and dtypes are not changed, so that `check` sees them.

    Raises:
        EpicError: The file is missing, damaged, or of another kind or layout; or a zip is not as
            the server wants it, with a line for each problem.
    """
    path = existing_file(path)
    if path.suffix.lower() == ".zip":
        return read_zip(path)
    return entries_of(read_content(path), path)


def read_content(path: PathLike) -> Any:
    """Read a `.pt` or `.pkl` file, of which no code is run. It may hold arrays of NumPy.

    Raises:
        EpicError: The file is missing, truncated or of another kind, or holds other objects.
    """
    if Path(path).suffix.lower() not in (".pt", ".pth", ".pkl"):
        suffix = Path(path).suffix
        raise EpicError(f"{path}: unknown kind of file {suffix!r}, expected .pt, .pkl or .zip")
    return read_foreign(path, "scores of segments, or damaged", "copy or write it again")


def expected_ids(annotations: PathLike) -> list[str]:
    """Read the `narration_id` column of an official CSV (train, validation or test)."""
    about = "an EPIC_100_*.csv"
    rows = read_table(annotations, ["narration_id"], about=about, delimiter=",")
    return [row["narration_id"] for _, row in rows]


def entries_of(content: Any, path: PathLike) -> list[dict]:
    """Convert either official layout, a list of dicts or a dict of arrays, to entries.

    C1's baselines (C1-Action-Recognition-TSN-TRN-TSM at e8e1a79, src/test.py) and PySlowFast's fork
    (epic-kitchens-slowfast at bf50519, tools/test_net.py) store such dicts.

    Raises:
        EpicError: It is neither.
    """
    keys = ("narration_id", *OUTPUTS)
    try:
        if isinstance(content, dict):
            columns = [content[key] for key in keys]
            rows = [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)]
        elif isinstance(content, list):
            rows = [{key: entry[key] for key in keys} for entry in content]
        else:
            raise TypeError(f"it is a {type(content).__name__}")
        for row in rows:
            if not isinstance(name := row["narration_id"], str):
                raise TypeError(f"a narration_id is {shortened(repr(name))}")
            row["narration_id"] = str(name)  # It may be a numpy.str_ object.
            for key in OUTPUTS:
                row[key] = torch.as_tensor(row[key])
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
        raise EpicError(
            f"{path}: expected a list of dicts with narration_id, verb_output and noun_output, but"
            f" {type(error).__name__}: {error}"
        ) from error
    return rows


def _row(scores: torch.Tensor) -> torch.Tensor:
    row = scores.detach().to("cpu", torch.float32).contiguous()
    # For a view, `torch.save` stores the whole storage.
    return row.clone() if row.untyped_storage().nbytes() != row.nbytes else row


def existing_file(path: PathLike) -> Path:
    """Return `path` as a Path.

    Raises:
        EpicError: There is no such file.
    """
    path = Path(path)
    if not path.is_file():
        is_folder = path.is_dir()
        raise EpicError(
            f"{path}: {'is a folder; expected .zip, .pt or .pkl' if is_folder else 'no such file'}"
        )
    return path


def write_zip(
    entries: Iterable[Mapping[str, Any]], path: str | os.PathLike, sls: Mapping[str, int]
) -> None:
    """Write the zip for the server, with one member, `test.json`.

    The same entries give the same bytes. The text of test.json is identical to what the official
    create_submission.py writes for the same scores.

    Args:
        entries: Entries from `build`.
        path: The zip.
        sls: Supervision levels `pt` (pretraining), `tl` (training labels) and `td` (training data),
            0 to 5 each; see github.com/epic-kitchens/sls.

    Raises:
        EpicError: `sls` is not three valid levels.
    """
    entries = list(entries)
    levels = {f"sls_{key}": level for key, level in sls.items()}
    try:
        checked_head = Head.model_validate(
            {"version": "0.2", "challenge": "action_recognition"} | levels
        )
    except ValidationError as error:
        faults = "; ".join(_lines("", error))
        raise EpicError(f"`export: sls:` is {dict(sls)}{faults}; expected pt, tl and td") from error
    head = json.dumps(checked_head.model_dump())
    # Level 3 takes half the time of the default for a file 8 % larger. A member that is opened by
    # name gets a fixed date, so that the bytes stay the same.
    with (
        atomic_path(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive,
        archive.open(MEMBER, "w") as file,
    ):
        separator = head.removesuffix("}") + ', "results": {'
        # All entries together would take a gigabyte as Python's numbers.
        for entry in entries:
            scores = {task: dict(enumerate(entry[f"{task}_output"].tolist())) for task in TASKS}
            text = json.dumps({entry["narration_id"]: scores}).removeprefix("{").removesuffix("}")
            file.write((separator + text).encode())
            separator = ", "
        file.write(b"}}")


def read_zip(path: PathLike) -> list[dict]:
    """Read a zip into entries like those of `build`.

    Raises:
        EpicError: The file is no submission; the message has a line for each problem.
        DiskError: The disk fails.
    """
    data = _member(path)
    ids: list[str] = []
    try:
        results = Submitted.model_validate_json(data, context=ids).results
    except ValidationError as error:
        raise EpicError("\n".join(_lines(f"{path}: {MEMBER}", error))) from error
    twice = [name for name, count in Counter(ids).items() if count > 1]
    if twice:
        raise EpicError(f"{path}: more than one result for {some_of(twice)}; expected one")
    return [
        {
            "narration_id": name,
            "verb_output": torch.from_numpy(result.verb),
            "noun_output": torch.from_numpy(result.noun),
        }
        for name, result in results.items()
    ]


def _member(path: PathLike) -> bytes:
    """The bytes of test.json, of no more than a valid file can have."""
    where = f"{path}: {MEMBER}"
    try:
        with reading(path) as file, zipfile.ZipFile(file) as archive:
            members = archive.namelist()
            if members != [MEMBER]:
                held = shortened(str(members[:5]))
                raise EpicError(f"{path}: holds {held}, expected exactly one member, {MEMBER}")
            method = archive.getinfo(MEMBER).compress_type
            if method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise EpicError(
                    f"{where} is packed by method {method}, expected stored or deflated"
                )
            # The size in the header may be wrong, so the read has a limit too.
            with archive.open(MEMBER) as member:
                claimed = archive.getinfo(MEMBER).file_size
                data = member.read(LARGEST + 1) if claimed <= LARGEST else b""
    except EpicError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
        raise EpicError(
            f"{path}: not a zip file, or a truncated or damaged one ({error})"
        ) from error
    if max(claimed, len(data)) > LARGEST:
        raise EpicError(f"{where} is over {LARGEST >> 20} MiB unpacked, expected less")
    opened, values = data.count(b"{") + data.count(b"["), data.count(b",")
    if opened > MOST_OPENED or values > MOST_VALUES:
        raise EpicError(
            f"{where} has {opened} objects and lists and {values} values, expected at most "
            f"{MOST_OPENED} and {MOST_VALUES}"
        )
    return data


def _lines(where: str, error: ValidationError) -> list[str]:
    """A line for each kind of fault; faults of results name their segments."""
    segments: defaultdict[str, list[str]] = defaultdict(list)
    for fault in error.errors(include_url=False, include_input=False):
        top, *below = map(str, fault["loc"]) if fault["loc"] else [""]
        words = fault["msg"].removeprefix("Value error, ")
        field = shortened(".".join([top, *below[1:]]))
        segments[f'{where}, "{field}": {words}' if top else f"{where}: {words}"] += below[:1]
    return [f"{line} in {some_of(names)}" if names else line for line, names in segments.items()]
