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
from epic100.base.errors import EpicError, printable
from epic100.base.text_table import read_table
from epic100.base.untrusted_tensors import read_untrusted
from epic100.data.official_lists import TASKS

PathLike = str | os.PathLike
# An entry has scores by these keys.
OUTPUTS = ("verb_output", "noun_output")

MEMBER = "test.json"
# A larger test.json, in bytes, is rejected. The file of EPIC-100 test has about 100 MiB.
LARGEST = 2**28
# A test.json with more objects and lists, or with more values, is rejected, because an object needs
# 100 times its bytes in memory. A test.json of EPIC-100 has three objects per segment, and a value
# for each verb and noun: the 13,092 segments of test have 39,000 objects and 5,200,000 values.
MAX_OBJECTS = 200_000
MAX_VALUES = 10_000_000


def _scores(score_of_class: dict[str, Any]) -> np.ndarray:
    """Turn one JSON object of the submission, such as `{"0": -0.1, "1": -2.3}`, into an array.

    Returns:
        float32 [classes]; the score of class 0 is first.

    Raises:
        ValueError: A class is missing, or its score is no number. pydantic reports it.
    """
    values = []
    for number in range(len(score_of_class)):
        if str(number) not in score_of_class:
            raise ValueError(f"no class {number} among its {len(score_of_class)} classes")
        values.append(score_of_class[str(number)])
    for value in values:
        # This is not `isinstance`, since True is an int too.
        if type(value) not in (float, int):
            # The value may be a long text, of which 40 characters are shown.
            raise ValueError(f"{value!r:.40} instead of a number")
    try:
        # A float too large for float32 becomes infinity, which `check` reports.
        with np.errstate(over="ignore"):
            return np.array(values, dtype=np.float64).astype(np.float32)
    except OverflowError as error:
        raise ValueError("a number beyond floats") from error


def _record_id(narration_id: str, info: ValidationInfo) -> str:
    """Collect the ids as the file has them: a dict would hide a duplicate id.

    This is a pydantic validator. It adds the id to the list that `read_zip` passes as the context,
    and returns the id unchanged.
    """
    if info.context is not None:
        info.context.append(narration_id)
    return narration_id


Scores = Annotated[dict[str, Any], AfterValidator(_scores)]
Level = Annotated[int, Field(ge=0, le=5)]
SUBMISSION = ConfigDict(strict=True, extra="forbid")


class Result(BaseModel):
    """The scores of one segment in `test.json`: an object for verbs and one for nouns."""

    model_config = SUBMISSION
    verb: Scores
    noun: Scores


class Head(BaseModel):
    """The head of `test.json`: version, challenge and supervision levels.

    The levels are explained at github.com/epic-kitchens/sls.
    """

    model_config = SUBMISSION
    version: Literal["0.2"]
    challenge: Literal["action_recognition"]
    sls_pt: Level
    sls_tl: Level
    sls_td: Level


class Submitted(Head):
    """The complete content of `test.json`: the head, and the scores of each segment by its id."""

    results: dict[Annotated[str, AfterValidator(_record_id)], Result]


def build(narration_ids: Sequence[str], verb: torch.Tensor, noun: torch.Tensor) -> list[dict]:
    """Make the entries of a submission, one dict for each segment.

    Args:
        narration_ids: N ids.
        verb: Scores [N, V], rows in the order of the ids.
        noun: Scores [N, M], rows in the order of the ids.

    Returns:
        One dict per segment, in the same order: `narration_id` (str), `verb_output` (float32 [V])
        and `noun_output` (float32 [M]). Each tensor owns its row and shares no larger storage.
    """
    verbs = verb.detach().to("cpu", torch.float32)
    nouns = noun.detach().to("cpu", torch.float32)
    # A row is copied, since of a view `torch.save` stores the complete storage: all rows.
    return [
        _entry(str(name), verb_row.clone(), noun_row.clone())
        for name, verb_row, noun_row in zip(narration_ids, verbs, nouns, strict=True)
    ]


def _entry(narration_id: str, verb: torch.Tensor, noun: torch.Tensor) -> dict[str, Any]:
    """Make the entry of a segment."""
    return {"narration_id": narration_id, "verb_output": verb, "noun_output": noun}


def read_submission(path: PathLike) -> list[dict]:
    """Read a submission: a `.zip` of the server, or a `.pt` or `.pkl` in an official layout.

    Returns:
        Entries as `build` makes them. Shapes and dtypes are not changed, so that `check` sees them.

    Raises:
        EpicError: The file is missing, damaged, or of another type or layout; or a zip is not as
            the server wants it, with a line for each problem.
    """
    path = existing_file(path)
    if path.suffix.lower() == ".zip":
        return read_zip(path)
    return entries_of(read_content(path), path)


def read_content(path: PathLike) -> Any:
    """Read a `.pt` or `.pkl` file, of which no code is run. It may hold arrays of NumPy.

    Raises:
        EpicError: The file is missing, truncated or of another type, or holds other objects.
    """
    if Path(path).suffix.lower() not in (".pt", ".pth", ".pkl"):
        suffix = Path(path).suffix
        raise EpicError(f"{path}: unknown type of file {suffix!r}, expected .pt, .pkl or .zip")
    return read_untrusted(path, "scores of segments, or damaged", "copy or write it again")


def expected_ids(annotations: PathLike) -> list[str]:
    """Read the `narration_id` column of an official CSV (train, validation or test)."""
    rows = read_table(annotations, ["narration_id"], about="an EPIC_100_*.csv", delimiter=",")
    return [row["narration_id"] for _, row in rows]


def entries_of(content: Any, path: PathLike) -> list[dict]:
    """Convert the content of a `.pt` or `.pkl` file to entries as `build` makes them.

    Both official layouts are accepted: a list of dicts, one per segment, and a dict of arrays.

    C1's baselines (C1-Action-Recognition-TSN-TRN-TSM at e8e1a79, src/test.py) and PySlowFast's fork
    (epic-kitchens-slowfast at bf50519, tools/test_net.py) store such dicts.

    Raises:
        EpicError: The content has neither layout.
    """
    if isinstance(content, dict) and "format" in content:
        raise EpicError(
            f"{path}: predictions or a model of this workflow ({content['format']!r:.60}), and no "
            "submission; expected results/submission.pt or .zip; for its metrics: epic100 score"
        )
    verb_key, noun_key = OUTPUTS
    entries = []
    try:
        if isinstance(content, dict):
            columns = content["narration_id"], content[verb_key], content[noun_key]
            rows = list(zip(*columns, strict=True))
        elif isinstance(content, list):
            rows = [(row["narration_id"], row[verb_key], row[noun_key]) for row in content]
        else:
            raise TypeError(f"it is a {type(content).__name__}")
        for name, verb, noun in rows:
            if not isinstance(name, str):
                raise TypeError(f"a narration_id is {shortened(repr(name))}")
            # A name may be a numpy.str_ object.
            entries.append(_entry(str(name), torch.as_tensor(verb), torch.as_tensor(noun)))
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
        raise EpicError(
            f"{path}: expected a list of dicts with narration_id, verb_output and noun_output, but"
            f" {type(error).__name__}: {error}"
        ) from error
    return entries


def existing_file(path: PathLike) -> Path:
    """Return a path as a `Path`, after a check that it is a file.

    Raises:
        EpicError: There is no such file.
    """
    path = Path(path)
    if path.is_dir():
        raise EpicError(f"{path}: is a folder; expected .zip, .pt or .pkl")
    if not path.is_file():
        raise EpicError(f"{path}: no such file")
    return path


def write_zip(
    entries: Iterable[Mapping[str, Any]], path: str | os.PathLike, sls: Mapping[str, int]
) -> None:
    """Write the zip that the server accepts, with one member, `test.json`.

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
    levels = {f"sls_{key}": level for key, level in sls.items()}
    try:
        checked_head = Head.model_validate(
            {"version": "0.2", "challenge": "action_recognition"} | levels
        )
    except ValidationError as error:
        # Each of these texts begins with a comma, since there is no place before it.
        defects = "; ".join(_defect_lines("", error))
        raise EpicError(
            f"`export: sls:` is {dict(sls)}{defects}; expected pt, tl and td"
        ) from error
    head = json.dumps(checked_head.model_dump())
    # Level 3 takes half the time of the default for a file 8 % larger. A member that is opened by
    # name gets a fixed date, so that the bytes stay the same.
    with (
        atomic_path(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive,
        archive.open(MEMBER, "w") as file,
    ):
        # The text of the complete object is put together from the texts of its entries, without
        # their braces: as Python's numbers, all entries together would take a gigabyte. The first
        # entry comes after the head, and each later one after a comma.
        prefix = head.removesuffix("}") + ', "results": {'
        for entry in entries:
            scores = {task: dict(enumerate(entry[f"{task}_output"].tolist())) for task in TASKS}
            text = json.dumps({entry["narration_id"]: scores}).removeprefix("{").removesuffix("}")
            file.write((prefix + text).encode())
            prefix = ", "
        file.write(b"}}")


def read_zip(path: PathLike) -> list[dict]:
    """Read a zip for the server into entries as `build` makes them.

    Raises:
        EpicError: The file is no submission; the message has a line for each problem.
        DiskError: The disk fails.
    """
    data = _json_bytes(path)
    ids: list[str] = []
    try:
        results = Submitted.model_validate_json(data, context=ids).results
    except ValidationError as error:
        raise EpicError("\n".join(_defect_lines(f"{path}: {MEMBER}", error))) from error
    duplicates = [name for name, count in Counter(ids).items() if count > 1]
    if duplicates:
        raise EpicError(f"{path}: more than one result for {some_of(duplicates)}; expected one")
    return [
        _entry(name, torch.from_numpy(result.verb), torch.from_numpy(result.noun))
        for name, result in results.items()
    ]


def _json_bytes(path: PathLike) -> bytes:
    """Read the bytes of test.json from a zip, and reject more than a valid file can have.

    Raises:
        EpicError: The file is no zip with this one member, or the member is too large or has too
            many objects, lists or values.
    """
    where = f"{path}: {MEMBER}"
    try:
        with reading(path) as file, zipfile.ZipFile(file) as archive:
            members = archive.namelist()
            if members != [MEMBER]:
                names = shortened(str(members[:5]))
                raise EpicError(f"{path}: holds {names}, expected exactly one member, {MEMBER}")
            method = archive.getinfo(MEMBER).compress_type
            if method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise EpicError(
                    f"{where} is packed by method {method}, expected stored or deflated"
                )
            # The size in the header may be wrong, so the read has a limit too. A member that is too
            # large by its header is not read, and is rejected below.
            with archive.open(MEMBER) as member:
                size_in_header = archive.getinfo(MEMBER).file_size
                data = member.read(LARGEST + 1) if size_in_header <= LARGEST else b""
    except EpicError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
        raise EpicError(
            f"{path}: not a zip file, or a truncated or damaged one ({error})"
        ) from error
    if max(size_in_header, len(data)) > LARGEST:
        raise EpicError(f"{where} is over {LARGEST >> 20} MiB unpacked, expected less")
    # Bytes are counted because nothing is parsed before its size is known. Each value but the last
    # one of an object or a list ends with a comma.
    objects, values = data.count(b"{") + data.count(b"["), data.count(b",")
    if objects > MAX_OBJECTS or values > MAX_VALUES:
        raise EpicError(
            f"{where} has {objects} objects and lists and {values} values, expected at most "
            f"{MAX_OBJECTS} and {MAX_VALUES}"
        )
    return data


def _defect_lines(where: str, error: ValidationError) -> list[str]:
    """Describe the defects of a test.json; segments with the same defect share a line.

    Example: `s.zip: test.json, "results.verb": Field required in 1 segment (P01_11_0)`.
    """
    segments_of_line: defaultdict[str, list[str]] = defaultdict(list)
    for defect in error.errors(include_url=False, include_input=False):
        # A defect is at `("sls_pt",)` or at `("results", "P01_11_0", "verb")`: the second key is
        # the segment, if there is one. The place is empty if the text is no JSON.
        keys = [str(key) for key in defect["loc"]]
        segments = [keys.pop(1)] if len(keys) > 1 else []
        message = defect["msg"].removeprefix("Value error, ")
        field = f', "{shortened(".".join(keys))}"' if keys else ""
        segments_of_line[f"{where}{field}: {message}"] += segments
    lines = []
    for line, segments in segments_of_line.items():
        lines.append(f"{line} in {some_of(segments)}" if segments else line)
    return lines


def shortened(text: str) -> str:
    """Shorten text from a file so that it fits one line of a terminal."""
    return printable(text if len(text) <= 80 else f"{text[:77]}...")


def some_of(names: Sequence[Any]) -> str:
    """Count segments and name the first three: `4 segments (P01_01_0, P01_01_1, P01_01_2, ...)`."""
    shown = ", ".join(shortened(str(name)) for name in names[:3])
    dots = ", ..." if len(names) > 3 else ""
    return f"{len(names)} {'segment' if len(names) == 1 else 'segments'} ({shown}{dots})"
