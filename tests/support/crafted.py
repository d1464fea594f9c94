"""Valid contents with one value changed: arrays, tensors and plain values. No test is here.

A file with random bytes changed seldom passes a checksum, so a reader stops at the checksum. Files
with these contents have valid checksums. So a reader must refuse the value, or it must be safe.
"""

import contextlib
import copy
import io
import json
import random
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

INTEGERS = (0, 1, -1, 2, 7, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**62, 2**63 - 1)
NUMBERS = (*INTEGERS, -(2**63), 10**300, 0.5, 1e-300, 1e300, *map(float, ("nan", "inf", "-inf")))
TEXTS = (
    "",
    "P01_01_0",
    "..",
    "a" * 10_000,
    "\x1b[2J",
    "\u202e",
    "=1+1",
    "os.system",
    "val",
    "1/0",
    "1e999999",
)
ARRAY_TYPES = (
    "f2",
    "f4",
    "f8",
    "i1",
    "i4",
    "i8",
    "u1",
    "u8",
    "c8",
    "?",
    "U3",
    "S2",
    "M8[s]",
    ">i8",
    ">f4",
)
TENSOR_TYPES = ("float16", "bfloat16", "float64", "int8", "int64", "bool", "complex64")


class Unpickled:
    """An object whose pickle calls a function when it is read."""

    def __init__(self, function: Any, *arguments: Any):
        self.function = function
        self.arguments = arguments

    def __reduce__(self) -> tuple:
        """Return what pickle writes, and calls when it reads."""
        return self.function, self.arguments


def saved(content: Any, **options: bool) -> bytes:
    """Return the bytes of the file that torch.save writes."""
    torch.save(content, buffer := io.BytesIO(), **options)
    return buffer.getvalue()


def members_of(data: bytes) -> list[tuple[str, bytes]]:
    """Read the names and contents of the members of a zip."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(member.filename, archive.read(member)) for member in archive.infolist()]


def zip_of(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """Make a zip of members with these names and contents, with valid checksums."""
    with zipfile.ZipFile(buffer := io.BytesIO(), "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def odd_value(rng: random.Random) -> Any:
    """Draw a plain value that few readers expect."""
    return rng.choice(
        [
            None,
            True,
            False,
            rng.choice(NUMBERS),
            rng.choice(TEXTS),
            [],
            {},
            [[]] * 3,
            # These are lists in lists, 60 levels deep.
            json.loads("[" * 60 + "]" * 60),
            {"": 1},
            {"a": {"b": []}},
            [rng.choice(NUMBERS)] * rng.choice((1, 2, 3, 1000)),
            [rng.choice(TEXTS)] * 2,
        ]
    )


def odd_tensor(rng: random.Random, tensor: torch.Tensor) -> Any:
    """Draw a change of a tensor: of its type, shape, layout or values."""
    flat = tensor.flatten()
    # Only the change that is drawn is made, since some cannot be made of each tensor.
    changes = [
        lambda: tensor[: rng.randrange(len(tensor) + 1)] if tensor.ndim else tensor[None],
        lambda: torch.cat([tensor, tensor]) if tensor.ndim else tensor.expand(3),
        lambda: tensor.to(getattr(torch, rng.choice(TENSOR_TYPES))),
        lambda: flat[:1].expand(rng.choice((0, 1, 10, 10**4, 10**7, 10**10))),
        lambda: tensor[None],
        lambda: tensor.T if tensor.ndim == 2 else flat,
        lambda: (
            torch.full_like(tensor, rng.choice((float("nan"), float("inf"), 1e38)))
            if tensor.is_floating_point()
            else tensor * 0 - 1
        ),
        lambda: torch.empty(0, rng.choice((0, 2**40))),
        lambda: tensor.to_sparse() if tensor.ndim else tensor,
        lambda: tensor.to("meta"),
        lambda: torch.nested.nested_tensor([flat.float(), flat.float()]),
        lambda: torch.quantize_per_tensor(flat.float(), 0.1, 0, torch.quint8),
        lambda: torch.nn.Parameter(tensor.float()),
        lambda: torch.tensor(rng.choice(INTEGERS)),
        lambda: odd_value(rng),
    ]
    return rng.choice(changes)()


def odd_array(rng: random.Random, array: np.ndarray) -> np.ndarray:
    """Draw a change of an array: of its type, shape, values or their order."""
    out = np.atleast_1d(array)
    number = rng.choice(NUMBERS)
    length = rng.randrange(len(out) + 1)
    places = np.arange(out.size).reshape(out.shape)
    # One value is chosen, or none.
    here = places == rng.randrange(out.size + 1)
    changes = [
        lambda: out[:length],
        lambda: np.concatenate([out, out]),
        lambda: out.astype(rng.choice(ARRAY_TYPES)),
        lambda: out[None] if array.ndim else array,
        lambda: out[0] if len(out) else np.array(0),
        lambda: np.empty((0, 2**40), out.dtype),
        lambda: rng.choice([np.array(odd_value(rng), str), np.array(number)]),
        lambda: out[np.random.default_rng(rng.randrange(2**32)).permutation(len(out))],
        lambda: np.where(here, np.roll(out, 1), out),
        lambda: np.where(places < length, out, out.flat[:1]),
        lambda: np.where(here, float(number), out).astype(out.dtype),
        lambda: np.full_like(out, float(number)),
        lambda: out + rng.choice((-1, 1)) * here.astype(out.dtype),
    ]
    # Some changes cannot be made of an array of this type. Then the array stays as it is.
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return rng.choice(changes)()
    return array


def places(content: Any, path: tuple = ()) -> Iterator[tuple]:
    """List the paths of all values in nested dicts, lists and tuples, such as ("meta", 0)."""
    yield path
    if isinstance(content, dict | list | tuple):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from places(value, (*path, key))


def broken(content: Any, rng: random.Random) -> Any:
    """Copy nested values and tensors with one of them changed, removed, renamed or doubled."""
    path = rng.choice([path for path in places(content) if path])
    return _changed(content, path, rng)


def _changed(content: Any, path: tuple, rng: random.Random) -> Any:
    """Copy a container with a change of the value at this path."""
    key, *rest = path
    out = list(content) if isinstance(content, tuple) else copy.copy(content)
    if rest:
        out[key] = _changed(out[key], tuple(rest), rng)
    elif rng.random() < 0.2:
        del out[key]
    elif rng.random() < 0.2 and isinstance(out, dict):
        out[rng.choice([*TEXTS, 7, 0.5, None, (1, (2, 3))])] = out.pop(key)
    elif rng.random() < 0.2 and isinstance(out, list):
        out.insert(key, out[key])
    elif isinstance(out[key], torch.Tensor):
        out[key] = odd_tensor(rng, out[key])
    else:
        out[key] = odd_value(rng)
    return tuple(out) if isinstance(content, tuple) else out
