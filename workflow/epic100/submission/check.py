"""Check a submission before upload: one line per problem that the server would report.

Lines that start with HINT are not errors for the server, but are rarely intended.
"""

import json
import math
import os
import re
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from epic100.base.disk import reading
from epic100.base.errors import DiskError
from epic100.base.names import printable

MEMBER = "test.json"
VERSION = "0.2"
CHALLENGE = "action_recognition"
OUTPUTS = ("verb_output", "noun_output")
HINT = "hint: "
LARGEST = 2**28  # bytes of test.json; that of EPIC-100 test has about 100 MiB
# Limits on objects and lists, values, and digits: an object needs 100 times its bytes in memory.
MOST_OPENED, MOST_VALUES, LONGEST_NUMBER = 200_000, 10_000_000, 64
MOST_SHOWN = 20  # duplicate keys that are listed, at most

_SLS = ("sls_pt", "sls_tl", "sls_td")
_SMALLEST = math.log(1.4e-45)  # a smaller float32 becomes 0


def check(
    entries: Sequence[Mapping[str, Any]],
    expected_ids: Iterable[str],
    num_verbs: int,
    num_nouns: int,
) -> list[str]:
    """List problems of entries from `submission.build` or `read_pt`.

    Reports missing, unexpected and duplicate ids, wrong shapes and dtypes, NaN and infinity. Hints
    report ties for the highest score and rows that become 0 in the official softmax.

    Args:
        entries: One dict per segment: `narration_id`, `verb_output` and `noun_output`.
        expected_ids: The narration ids of the split.
        num_verbs: Scores that each `verb_output` must have.
        num_nouns: Scores that each `noun_output` must have.

    Returns:
        One line per problem, hints last; empty if there are none.
    """
    problems = _id_problems([entry["narration_id"] for entry in entries], expected_ids)
    log_shares = []
    for key, size in zip(OUTPUTS, (num_verbs, num_nouns), strict=True):
        good = []
        faults: dict[str, list[str]] = {}
        for entry in entries:
            scores, name = entry[key], str(entry["narration_id"])
            if tuple(scores.shape) != (size,):
                shape = f"has shape {list(scores.shape)}, expected [{size}]"
                faults.setdefault(shape, []).append(name)
            elif scores.dtype != torch.float32:
                dtype = str(scores.dtype).removeprefix("torch.")
                faults.setdefault(f"is {dtype}, expected float32", []).append(name)
            else:
                good.append((name, scores))
        if good:
            names = [name for name, _ in good]
            rows = torch.stack([scores.detach().cpu() for _, scores in good])
            bad = ~rows.isfinite().all(dim=1)
            tied = (rows == rows.amax(dim=1, keepdim=True)).sum(dim=1) > 1
            if size > 1 and tied.any():
                tied_names = _chosen(names, tied)
                equal = int((rows[tied] == rows[tied][:, :1]).all(dim=1).sum())
                problems.append(
                    f"{HINT}{key} has several classes tied for the highest score in"
                    f" {_some(tied_names)}; all classes in {equal} of them"
                )
            if bad.any():
                faults["holds NaN or infinity"] = _chosen(names, bad)
            else:
                rows = rows.double()
                log_shares.append(rows.amax(dim=1) - rows.flatten().logsumexp(0))
        problems += [f"{key} {fault} in {_some(names)}" for fault, names in faults.items()]
    if len(log_shares) == 2 and len(log_shares[0]) == len(log_shares[1]) == len(entries):
        lost = (log_shares[0] + log_shares[1]) < _SMALLEST
        if lost.any():
            names = _chosen([str(entry["narration_id"]) for entry in entries], lost)
            problems.append(
                f"{HINT}all action scores become 0 in {_some(names)}: the official evaluator takes"
                " one softmax over all rows; give row-normalised log-probabilities"
            )
    return sorted(problems, key=lambda line: line.startswith(HINT))


def check_zip(
    path: str | os.PathLike, expected_ids: Iterable[str], num_verbs: int, num_nouns: int
) -> list[str]:
    """List problems of a zip for the server, those of `check` included; empty if there are none.

    EPIC-100 test (13,092 segments) takes a few seconds and a few hundred MB.
    """
    entries, problems = read_zip(path, num_verbs, num_nouns)
    if entries is None:
        return problems
    return [*problems, *check(entries, expected_ids, num_verbs, num_nouns)]


def read_zip(
    path: str | os.PathLike, num_verbs: int, num_nouns: int
) -> tuple[list[dict] | None, list[str]]:
    """Read a zip into entries like those of `submission.build`, and check all but their scores.

    Returns:
        The entries, or None if the file has no results to check; the problems, one line each.

    Raises:
        DiskError: The disk fails.
    """
    where = f"{path}: {MEMBER}"
    try:
        with reading(path) as file, zipfile.ZipFile(file) as archive:
            members = archive.namelist()
            if members != [MEMBER]:
                held = _short(str(members[:5]))
                return None, [f"{path}: holds {held}, expected exactly one member, {MEMBER}"]
            how = archive.getinfo(MEMBER).compress_type
            if how not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                return None, [f"{where} is packed by method {how}, expected stored or deflated"]
            with archive.open(MEMBER) as member:  # the size in its header may be wrong
                claimed = archive.getinfo(MEMBER).file_size
                data = member.read(LARGEST + 1) if claimed <= LARGEST else b""
            if max(claimed, len(data)) > LARGEST:
                return None, [f"{where} is over {LARGEST >> 20} MiB unpacked, expected less"]
            if fault := _beyond(data):
                return None, [f"{where} {fault}"]
            text = data.decode("utf-8")
            del data
    except DiskError:
        raise
    except UnicodeDecodeError as error:
        return None, [f"{where} is not UTF-8 ({error})"]
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError,
            RuntimeError, ValueError, OverflowError, struct.error) as error:  # fmt: skip
        return None, [f"{path}: not a zip file, or a truncated or damaged one ({error})"]

    reader = _Reader(num_verbs, num_nouns)
    try:
        content = json.loads(text, object_pairs_hook=reader.object, parse_constant=reader.constant)
    except (ValueError, RecursionError) as error:
        return None, [f"{where} is not JSON ({error})"]
    del text
    problems = []
    if not isinstance(content, dict):
        return None, [f"{where} is a JSON {type(content).__name__}, expected an object"]
    for key, wanted in (("version", VERSION), ("challenge", CHALLENGE)):
        if content.get(key) != wanted:
            found = _short(json.dumps(content.get(key), default=str))
            problems.append(f'"{key}" is {found}, expected "{wanted}"')
    levels = {key: content[key] for key in content if key.startswith("sls_")}
    unknown = [key for key in content if key not in ("version", "challenge", "results", *levels)]
    problems += sls_problems(levels)
    problems += [f'"{_short(key)}" is no field of a submission' for key in unknown]
    problems += [f"{_short(key)} appears twice in one object" for key in reader.duplicates]
    problems += [f"{name} is no number of JSON" for name in sorted(reader.constants)]
    results = content.get("results")
    if not isinstance(results, dict):
        return None, [*problems, '"results" is missing, expected an object of narration ids']
    entries, faults = _zip_entries(results)
    return entries, [*problems, *faults]


def _beyond(data: bytes) -> str:
    """Say what in test.json needs more memory or time than a valid file can, or return ""."""
    opened = data.count(b"{") + data.count(b"[")
    if opened > MOST_OPENED:
        return f"has {opened} objects and lists, expected at most {MOST_OPENED}"
    if (values := data.count(b",")) > MOST_VALUES:
        return f"has {values} values, expected at most {MOST_VALUES}"
    if not data.isascii() and len(data) > 2**24:  # one such letter makes the text 4 times as large
        return "is no plain ASCII, as json.dumps writes it"
    if re.search(rb"[0-9]{%d}" % LONGEST_NUMBER, data):
        return f"has a number of more than {LONGEST_NUMBER} digits"
    return ""


def _short(text: str) -> str:
    """Shorten text from a file so that it fits one line of a terminal."""
    return printable(text if len(text) <= 80 else f"{text[:77]}...")


def sls_problems(levels: Mapping[str, Any]) -> list[str]:
    """List problems of the supervision levels `sls_pt`, `sls_tl`, `sls_td` (integers, 0 to 5)."""
    problems = [f'"{key}" is missing, expected 0 to 5' for key in _SLS if key not in levels]
    for key, level in levels.items():
        if key not in _SLS:
            problems.append(f'"{_short(key)}" is no supervision level, expected {", ".join(_SLS)}')
        elif type(level) is not int or not 0 <= level <= 5:
            problems.append(f'"{key}" is {_short(repr(level))}, expected an integer from 0 to 5')
    return problems


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
            if all(type(value) in (float, int) for value in values):
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
    faults: dict[str, list[str]] = {}
    for narration_id, result in results.items():
        if not isinstance(result, dict) or set(result) != {"verb", "noun"}:
            faults.setdefault('is not an object of "verb" and "noun"', []).append(narration_id)
            result = {}
        entry: dict[str, Any] = {"narration_id": narration_id}
        for task, key in zip(("verb", "noun"), OUTPUTS, strict=True):
            scores = result.get(task, {})
            if isinstance(scores, dict):
                scores, fault = _scores_of(scores)
                if fault and result:
                    faults.setdefault(f'has {fault} in "{task}"', []).append(narration_id)
            elif not isinstance(scores, np.ndarray):
                faults.setdefault(f'"{task}" is no object', []).append(narration_id)
                scores = np.empty(0, np.float32)
            entry[key] = torch.from_numpy(scores)
        entries.append(entry)
    return entries, [f"the result {fault}: {_some(names)}" for fault, names in faults.items()]


def _scores_of(scores: Mapping[str, Any]) -> tuple[np.ndarray, str]:
    """Return scores sorted by class, and what is wrong with their keys ("" if nothing)."""
    wanted = [str(i) for i in range(len(scores))]
    missing = [key for key in wanted if key not in scores]
    if missing:
        return np.empty(0, np.float32), f"no class {missing[0]} among its {len(scores)} classes"
    values = [scores[key] for key in wanted]
    wrong = [value for value in values if type(value) not in (float, int)]
    if wrong:
        return np.empty(0, np.float32), f"{wrong[0]!r:.40} instead of a number"
    return _float32(values), ""


def _id_problems(ids: Sequence[Any], expected_ids: Iterable[str]) -> list[str]:
    problems = []
    expected = dict.fromkeys(expected_ids)
    counts = Counter(i for i in ids if isinstance(i, str))
    groups = {
        "narration_id is not a str": [i for i in ids if not isinstance(i, str)],
        "missing": [i for i in expected if i not in counts],
        "unexpected": [i for i in counts if i not in expected],
        "more than one entry for": [i for i, count in counts.items() if count > 1],
    }
    for name, group in groups.items():
        if group:
            problems.append(f"{name}: {_some(group)}")
    return problems


def _chosen(names: Sequence[str], mask: torch.Tensor) -> list[str]:
    return [names[i] for i in mask.nonzero().flatten().tolist()]


def _some(names: Sequence[Any]) -> str:
    shown = ", ".join(_short(str(name)) for name in names[:3])
    more = ", ..." if len(names) > 3 else ""
    return f"{len(names)} segment{'s' * (len(names) != 1)} ({shown}{more})"
