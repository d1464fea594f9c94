"""Submission files: the entries of a submission, and the `.pt` of the official tools.

Format: epic-kitchens/C1-Action-Recognition, README.md and utils/challenge.py.
"""

import os
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from epic100.base.disk import reading
from epic100.base.errors import EpicError
from epic100.base.foreign_tensors import read_foreign
from epic100.base.text_table import read_table
from epic100.base.torch_file import read_tensors, write_tensors
from epic100.submission.check import HINT, OUTPUTS, check, shortened

PathLike = str | os.PathLike


def build(narration_ids: Sequence[str], verb: torch.Tensor, noun: torch.Tensor) -> list[dict]:
    """Make the entries of a submission.

    Args:
        narration_ids: N ids.
        verb: Scores [N, V], rows in the order of the ids.
        noun: Scores [N, M], rows in the order of the ids.

    Returns:
        One dict per segment, in the same order: `narration_id` (str), `verb_output` (float32 [V])
        and `noun_output` (float32 [M]). Each tensor owns its row and shares no larger storage.

    Raises:
        EpicError: Lengths differ.
    """
    if not (verb.ndim == noun.ndim == 2 and len(verb) == len(noun) == len(narration_ids)):
        raise EpicError(
            f"{len(narration_ids)} narration ids with verb scores {list(verb.shape)} and noun"
            f" scores {list(noun.shape)}, expected [N, verbs] and [N, nouns] for N ids"
        )
    return [
        {"narration_id": str(narration_id), "verb_output": _row(v), "noun_output": _row(n)}
        for narration_id, v, n in zip(narration_ids, verb, noun, strict=True)
    ]


def write_pt(entries: Sequence[Mapping[str, Any]], path: PathLike) -> None:
    """Write entries from `build` with torch.save, readable by `torch.load(weights_only=True)`.

    Raises:
        EpicError: An id appears twice, or a score is NaN or infinite.
    """
    refuse_unwritable(entries)
    entries = [
        {"narration_id": entry["narration_id"], **{key: _row(entry[key]) for key in OUTPUTS}}
        for entry in entries
    ]
    write_tensors(entries, path)


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


def refuse_unwritable(entries: Sequence[Mapping[str, Any]]) -> None:
    """Raise EpicError for entries that no file may hold: `check` finds a fault in them."""
    ids = [entry["narration_id"] for entry in entries]
    sizes = [entries[0][key].shape[-1] for key in OUTPUTS] if entries else (1, 1)
    faults = [line for line in check(entries, ids, *sizes) if not line.startswith(HINT)]
    if faults:
        raise EpicError(f"entries that cannot be written: {'; '.join(faults)}")


def existing_file(path: PathLike) -> Path:
    """Return `path` as a Path.

    Raises:
        EpicError: There is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise EpicError(f"{path}: no such file")
    return path
