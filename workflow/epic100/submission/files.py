"""The files of a submission: its entries, the `.pt` of the official tools, the server's `.zip`.

Format: epic-kitchens/C1-Action-Recognition, README.md and utils/challenge.py.
"""

import json
import os
import pickle
import re
import struct
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from epic100.base.atomic import atomic_path
from epic100.base.disk import reading
from epic100.base.errors import EpicError
from epic100.base.foreign_tensors import read_foreign
from epic100.base.text_table import read_table
from epic100.base.torch_file import read_tensors
from epic100.segments.official_lists import TASKS
from epic100.submission.check import OUTPUTS, check, shortened, sls_problems, some_of

PathLike = str | os.PathLike


MEMBER = "test.json"
VERSION = "0.2"
CHALLENGE = "action_recognition"
LARGEST = 2**28  # bytes of test.json; that of EPIC-100 test has about 100 MiB
# Limits on objects and lists, values, and digits: an object needs 100 times its bytes in memory.
MOST_OPENED, MOST_VALUES, LONGEST_NUMBER = 200_000, 10_000_000, 64
MOST_SHOWN = 20  # duplicate keys that are listed, at most


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


def read_pt(path: PathLike) -> list[dict]:
    """Read a `.pt` file in the official list or dict layout, without running code from the file.

    Returns:
        Entries like those of `build`. Shapes and dtypes are not changed, so that `check` sees them.

    Raises:
        EpicError: The file is missing, truncated or of another kind or layout, or needs code to
            load (NumPy objects do too).
    """
    path = Path(path)
    content = read_foreign(
        path,
        "a file of torch.save, or a damaged one",
        "copy or write it again",
        code_remedy="expected plain strings and tensors, no NumPy arrays; if you trust the file, "
        "check it with --allow-pickle",
    )
    return _entries(content, path)


def read_pickle(path: PathLike) -> list[dict]:
    """Read a `.pkl` or `.pt` file with NumPy arrays. This runs code from the file: trust it first.

    Raises:
        EpicError: The file is missing, cannot be loaded, or has another layout.
    """
    path = existing_file(path)
    try:
        if path.suffix.lower() == ".pt":
            again = "copy or write it again"
            return _entries(read_tensors(path, "a submission", again, allow_pickle=True), path)
        with reading(path) as file:
            return _entries(pickle.load(file), path)
    except EpicError:
        raise
    except Exception as error:  # unpickling runs code: anything can be raised
        raise EpicError(
            f"{path}: cannot be unpickled ({type(error).__name__}: {error}); expected a submission"
        ) from error


def expected_ids(annotations: PathLike) -> list[str]:
    """Read the `narration_id` column of an official CSV (train, validation or test)."""
    about = "an EPIC_100_*.csv"
    rows = read_table(annotations, ["narration_id"], about=about, delimiter=",")
    return [row["narration_id"] for _, row in rows]


def _entries(content: Any, path: Path) -> list[dict]:
    """Convert either official layout, a list of dicts or a dict of arrays, to a list of dicts."""
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
            row["narration_id"] = str(name)  # it may be a numpy.str_
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
    # torch.save stores the whole storage of a view.
    return row.clone() if row.untyped_storage().nbytes() != row.nbytes else row


def existing_file(path: PathLike) -> Path:
    """Return `path` as a Path.

    Raises:
        EpicError: There is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise EpicError(f"{path}: no such file")
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
    problems = sls_problems({f"sls_{key}": level for key, level in sls.items()})
    if problems:
        raise EpicError(f"supervision levels {dict(sls)}: " + "; ".join(problems))
    levels = {f"sls_{key}": sls[key] for key in ("pt", "tl", "td")}
    head = json.dumps({"version": VERSION, "challenge": CHALLENGE, **levels})
    # Level 3 takes half the time of the default for a file 8 % larger. A member that is opened by
    # name gets a fixed date, so that the bytes stay the same.
    with (
        atomic_path(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive,
        archive.open(MEMBER, "w") as file,
    ):
        separator = head.removesuffix("}") + ', "results": {'
        for entry in entries:  # one at a time, since all as Python's numbers take a gigabyte
            scores = {task: dict(enumerate(entry[f"{task}_output"].tolist())) for task in TASKS}
            text = json.dumps({entry["narration_id"]: scores}).removeprefix("{").removesuffix("}")
            file.write((separator + text).encode())
            separator = ", "
        file.write(b"}}")


def check_zip(
    path: str | os.PathLike, expected_ids: Iterable[str], num_verbs: int, num_nouns: int
) -> list[str]:
    """List problems of a zip for the server, those of `check` included; empty if there are none.

    EPIC-100 test (13,092 segments) takes a few seconds and a few hundred MB. Raises EpicError for
    a file without results that could be checked.
    """
    entries, problems = read_zip(path, num_verbs, num_nouns)
    return [*problems, *check(entries, expected_ids, num_verbs, num_nouns)]


def read_zip(
    path: str | os.PathLike, num_verbs: int, num_nouns: int
) -> tuple[list[dict], list[str]]:
    """Read a zip into entries like those of `build`, and check all but their scores.

    Returns:
        The entries, and the problems, one line each.

    Raises:
        EpicError: The file has no results to check.
        DiskError: The disk fails.
    """
    where = f"{path}: {MEMBER}"
    try:
        with reading(path) as file, zipfile.ZipFile(file) as archive:
            members = archive.namelist()
            if members != [MEMBER]:
                held = shortened(str(members[:5]))
                raise EpicError(f"{path}: holds {held}, expected exactly one member, {MEMBER}")
            how = archive.getinfo(MEMBER).compress_type
            if how not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise EpicError(f"{where} is packed by method {how}, expected stored or deflated")
            with archive.open(MEMBER) as member:  # the size in its header may be wrong
                claimed = archive.getinfo(MEMBER).file_size
                data = member.read(LARGEST + 1) if claimed <= LARGEST else b""
            if max(claimed, len(data)) > LARGEST:
                raise EpicError(f"{where} is over {LARGEST >> 20} MiB unpacked, expected less")
            if fault := _beyond(data):
                raise EpicError(f"{path}: {fault}")
            text = data.decode("utf-8")
            del data
    except EpicError:
        raise
    except UnicodeDecodeError as error:
        raise EpicError(f"{where} is not UTF-8 ({error}), expected JSON text") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError,
            RuntimeError, ValueError, OverflowError, struct.error) as error:  # fmt: skip
        raise EpicError(
            f"{path}: not a zip file, or a truncated or damaged one ({error})"
        ) from error

    reader = _Reader(num_verbs, num_nouns)
    try:
        content = json.loads(text, object_pairs_hook=reader.object, parse_constant=reader.constant)
    except (ValueError, RecursionError) as error:
        raise EpicError(f"{where} is not JSON ({error}), expected an object") from error
    del text
    problems = []
    if not isinstance(content, dict):
        raise EpicError(f"{where} is a JSON {type(content).__name__}, expected an object")
    for key, wanted in (("version", VERSION), ("challenge", CHALLENGE)):
        if content.get(key) != wanted:
            found = shortened(json.dumps(content.get(key), default=str))
            problems.append(f'"{key}" is {found}, expected "{wanted}"')
    levels = {key: content[key] for key in content if key.startswith("sls_")}
    unknown = [key for key in content if key not in ("version", "challenge", "results", *levels)]
    problems += sls_problems(levels)
    problems += [f'"{shortened(key)}" is no field of a submission' for key in unknown]
    problems += [f"{shortened(key)} appears twice in one object" for key in reader.duplicates]
    problems += [f"{name} is no number of JSON" for name in sorted(reader.constants)]
    results = content.get("results")
    if not isinstance(results, dict):
        problems.append('"results" is missing, expected an object of narration ids')
        raise EpicError("\n".join(problems))
    entries, faults = _zip_entries(results)
    return entries, [*problems, *faults]


def _beyond(data: bytes) -> str:
    """Say what in test.json needs more memory or time than a valid file can, or return ""."""
    opened = data.count(b"{") + data.count(b"[")
    if opened > MOST_OPENED:
        return f"{MEMBER} has {opened} objects and lists, expected at most {MOST_OPENED}"
    if (values := data.count(b",")) > MOST_VALUES:
        return f"{MEMBER} has {values} values, expected at most {MOST_VALUES}"
    if not data.isascii() and len(data) > 2**24:  # one such letter makes the text 4 times as large
        return f"{MEMBER} is no plain ASCII, as json.dumps writes it"
    if re.search(rb"[0-9]{%d}" % LONGEST_NUMBER, data):
        return f"{MEMBER} has a number of more than {LONGEST_NUMBER} digits"
    return ""


class _Reader:
    """Turns each object of class scores into an array while the JSON is parsed, to save memory."""

    def __init__(self, num_verbs: int, num_nouns: int):
        self.layouts = {
            size: [str(i) for i in range(size)] for size in sorted({num_verbs, num_nouns})
        }
        self.duplicates: list[str] = []
        self.constants: set[str] = set()

    def object(self, pairs: list[tuple[str, Any]]) -> dict | np.ndarray:
        keys = [key for key, _ in pairs]
        if keys == self.layouts.get(len(keys)):
            values = [value for _, value in pairs]
            if {float, int}.issuperset(map(type, values)):
                return _float32(values)
        unique = dict(pairs)
        if len(unique) < len(pairs):
            twice = [key for key, count in Counter(keys).items() if count > 1]
            self.duplicates += twice[: MOST_SHOWN - len(self.duplicates)]
        return unique

    def constant(self, name: str) -> float:
        self.constants.add(name)
        return float(name)


def _float32(values: list[float]) -> np.ndarray:
    with np.errstate(over="ignore"):  # an overflow becomes inf, which `check` reports
        return np.array(values, dtype=np.float64).astype(np.float32)


def _zip_entries(results: Mapping[str, Any]) -> tuple[list[dict], list[str]]:
    entries = []
    faults: defaultdict[str, list[str]] = defaultdict(list)
    for narration_id, result in results.items():
        if not isinstance(result, dict) or set(result) != set(TASKS):
            faults['is not an object of "verb" and "noun"'].append(narration_id)
            result = dict.fromkeys(TASKS, {})
        entry: dict[str, Any] = {"narration_id": narration_id}
        for task in TASKS:
            try:
                scores = _scores_of(result[task])
            except ValueError as error:
                faults[f'has {error} in "{task}"'].append(narration_id)
                scores = np.empty(0, np.float32)
            entry[f"{task}_output"] = torch.from_numpy(scores)
        entries.append(entry)
    return entries, [f"the result {fault}: {some_of(names)}" for fault, names in faults.items()]


def _scores_of(scores: Any) -> np.ndarray:
    """The scores of an object, sorted by class. Raises ValueError, which says what it has else."""
    if isinstance(scores, np.ndarray):
        return scores
    if not isinstance(scores, dict):
        raise ValueError("no object")
    wanted = [str(i) for i in range(len(scores))]
    if missing := [key for key in wanted if key not in scores]:
        raise ValueError(f"no class {missing[0]} among its {len(scores)} classes")
    values = [scores[key] for key in wanted]
    if wrong := [value for value in values if type(value) not in (float, int)]:
        raise ValueError(f"{wrong[0]!r:.40} instead of a number")
    return _float32(values)
