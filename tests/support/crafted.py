"""Break one rule in the contents of honest files: arrays and plain values. No test is here.

Random changes of bytes hardly ever pass a checksum, so a reader refuses them at once. The files
here have sound checksums: a reader must refuse their contents, or use them safely.
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

NUMBERS = (0, 1, -1, 2, 7, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**62, 2**63 - 1, -(2**63),
           10**300, 0.5, 1e-300, 1e300, float("nan"), float("inf"), -float("inf"))  # fmt: skip
TEXTS = ("", "P01_01_0", "..", "a" * 10_000, "\x1b[2J", "\u202e", "=1+1", "os.system", "val", "1/0",
         "1e999999")  # fmt: skip
DEEP = "[" * 60 + "]" * 60
KINDS = ("f2", "f4", "f8", "i1", "i4", "i8", "u1", "u8", "c8", "?", "U3", "S2", "M8[s]", ">i8",
         ">f4")  # fmt: skip


class Unpickled:
    """Calls a function when it is unpickled, as an attack does."""

    def __init__(self, *call: Any):
        self.call = call

    def __reduce__(self) -> tuple:
        return self.call[0], self.call[1:]


def saved(content: Any, **how: bool) -> bytes:
    """The bytes of a file that torch.save writes."""
    torch.save(content, buffer := io.BytesIO(), **how)
    return buffer.getvalue()


def members_of(data: bytes) -> list[tuple[str, bytes]]:
    """The names and contents of the members of a zip."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(member.filename, archive.read(member)) for member in archive.infolist()]


def zip_of(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of these names and contents, with sound checksums."""
    with zipfile.ZipFile(buffer := io.BytesIO(), "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def odd_value(rng: random.Random) -> Any:
    """Draw a value that hardly any key of a file expects."""
    return rng.choice([
        None, True, False, rng.choice(NUMBERS), rng.choice(TEXTS), [], {}, [[]] * 3,
        json.loads(DEEP), {"": 1}, {"a": {"b": []}},
        [rng.choice(NUMBERS)] * rng.choice((1, 2, 3, 1000)), [rng.choice(TEXTS)] * 2,
    ])  # fmt: skip


def odd_tensor(rng: random.Random, tensor: torch.Tensor) -> Any:
    """Change a tensor at random: its dtype, shape, layout or values."""
    flat = tensor.flatten()
    ways = [
        lambda: tensor[: rng.randrange(len(tensor) + 1)] if tensor.ndim else tensor[None],
        lambda: torch.cat([tensor, tensor]) if tensor.ndim else tensor.expand(3),
        lambda: tensor.to(rng.choice([torch.float16, torch.bfloat16, torch.float64, torch.int8,
                                      torch.int64, torch.bool, torch.complex64])),
        lambda: flat[:1].expand(rng.choice((0, 1, 10, 10**4, 10**7, 10**10))),
        lambda: tensor[None],
        lambda: tensor.T if tensor.ndim == 2 else flat,
        lambda: torch.full_like(tensor, rng.choice((float("nan"), float("inf"), 1e38)))
        if tensor.is_floating_point() else tensor * 0 - 1,
        lambda: torch.empty(0, rng.choice((0, 2**40))),
        lambda: tensor.to_sparse() if tensor.ndim else tensor,
        lambda: tensor.to("meta"),
        lambda: torch.nested.nested_tensor([flat.float(), flat.float()]),
        lambda: torch.quantize_per_tensor(flat.float(), 0.1, 0, torch.quint8),
        lambda: torch.nn.Parameter(tensor.float()),
        lambda: torch.tensor(rng.choice(NUMBERS[:12])),
        lambda: odd_value(rng),
    ]  # fmt: skip
    return rng.choice(ways)()


def odd_array(rng: random.Random, array: np.ndarray) -> np.ndarray:
    """Change an array at random: its dtype, shape, values or order."""
    out, number = np.atleast_1d(array), rng.choice(NUMBERS)
    at, places = rng.randrange(len(out) + 1), np.arange(out.size).reshape(out.shape)
    here = places == rng.randrange(out.size + 1)
    ways = [
        lambda: out[:at],
        lambda: np.concatenate([out, out]),
        lambda: out.astype(rng.choice(KINDS)),
        lambda: out[None] if array.ndim else array,
        lambda: out[0] if len(out) else np.array(0),
        lambda: np.empty((0, 2**40), out.dtype),
        lambda: rng.choice([np.array(odd_value(rng), str), np.array(number)]),
        lambda: out[np.random.default_rng(rng.randrange(2**32)).permutation(len(out))],
        lambda: np.where(here, np.roll(out, 1), out),
        lambda: np.where(places < at, out, out.flat[:1]),
        lambda: np.where(here, float(number), out).astype(out.dtype),
        lambda: np.full_like(out, float(number)),
        lambda: out + rng.choice((-1, 1)) * here.astype(out.dtype),
    ]
    # A way may not fit values of this kind.
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return rng.choice(ways)()
    return array


def places(content: Any, path: tuple = ()) -> Iterator[tuple]:
    """Yield the path of each value in nested dicts, lists and tuples: `()`, `("a",)`, ...

    Containers are values, too.
    """
    yield path
    if isinstance(content, dict | list | tuple):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from places(value, (*path, key))


def broken(content: Any, rng: random.Random) -> Any:
    """Copy nested plain values and tensors, and change, remove, rename or double one of them."""
    path = rng.choice([place for place in places(content) if place])
    return _changed(copy.copy(content), path, rng)


def _changed(content: Any, path: tuple, rng: random.Random) -> Any:
    """Copy nested values with the value at `path` changed."""
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
