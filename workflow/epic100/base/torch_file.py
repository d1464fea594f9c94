"""Tensor files: one way to write them atomically, one way to read them without trusting them.

`torch.save` writes a zip with a pickle of the structure and one member per storage. Before torch
1.6 it wrote other formats. `torch.load(weights_only=True)` runs no code of the file. But it checks
neither the checksums nor whether a storage is as large as the pickle claims. This module checks
both first, and refuses tensors with more values than a file of this size can hold.
"""

import io
import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from typing import IO, Any

import torch

from epic100.base.atomic import atomic_path
from epic100.base.disk import reading
from epic100.base.errors import DiskError, EpicError

ZIP = b"PK\x03\x04"  # torch tells its formats apart by these bytes only
SPREAD, SPARE = 4, 64 * 2**20  # values may take SPREAD times the file's bytes plus SPARE bytes
CONTAINER, PLACE = 64, 8  # bytes counted per list or dict and per item of it, shared ones too
ITEM_BYTES = {
    **dict.fromkeys(("Untyped", "Byte", "Char", "Bool", "QInt8", "QUInt8"), 1),
    **dict.fromkeys(("QUInt4x2", "QUInt2x4"), 1),
    **dict.fromkeys(("Short", "Half", "BFloat16"), 2),
    **dict.fromkeys(("Int", "Float", "QInt32"), 4),
    **dict.fromkeys(("Long", "Double", "ComplexFloat"), 8),
    "ComplexDouble": 16,
}


class BrokenFile(EpicError):
    """A file that can be read but is not a complete file of tensors and plain Python objects."""


def pack(content: Any) -> memoryview:
    """The bytes of a tensor file. They depend on the content only, not on the file's name."""
    buffer = io.BytesIO()  # given a path, torch.save writes its (temporary) name into the file
    torch.save(content, buffer)
    return buffer.getbuffer()


def write_tensors(content: Any, path: str | os.PathLike) -> None:
    """Write tensors and plain Python objects to `path` atomically."""
    data = pack(content)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def read_tensors(
    path: str | os.PathLike,
    what: str,
    remedy: str,
    *,
    most: int | None = None,
    drop_objects: bool = False,
    allow_pickle: bool = False,
    code_remedy: str = "",
) -> Any:
    """Read a tensor file to the CPU without running code from it.

    Args:
        path: The file.
        what: What was expected, for the error: "not {what} (why); {remedy}".
        remedy: What to do, for the error.
        most: Limit for the values of all tensors, in bytes. None: in proportion to the file size.
        drop_objects: Replace objects that only code can load by empty ones, instead of refusing
            the file.
        allow_pickle: Load such objects. This runs code from the file.
        code_remedy: What to do about a file with such objects, if that differs from `remedy`.

    Returns:
        What was saved.

    Raises:
        BrokenFile: The file is truncated, altered, not a tensor file, contains code, or has tensors
            with more values than it can hold.
        EpicError: The file is missing, or cannot be read because of the disk (DiskError) or too
            little memory. The file itself may be fine.
    """
    try:
        with reading(path) as file:
            return _load(file, most, drop_objects, allow_pickle)
    except DiskError:
        raise
    except FileNotFoundError as error:
        raise EpicError(f"{path}: no such file; {remedy}") from error
    except Exception as error:  # torch and zipfile raise many kinds of errors for a wrong file
        if _lacks_memory(error):
            size = os.path.getsize(path) / 2**20
            raise EpicError(
                f"{path}: cannot be read: too little memory for its {size:.1f} MiB; free some, or "
                "ask for more"
            ) from error
        reason, has_code = _reason(error)
        advice = code_remedy if has_code and code_remedy else remedy
        raise BrokenFile(f"{path}: not {what} ({reason}); {advice}") from error


def named_tensors(content: Any) -> dict[str, torch.Tensor]:
    """The tensors of a state_dict, plain or inside a checkpoint, by name.

    The prefix `module.` that distributed training adds to each name is removed.
    """
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    return {
        name.removeprefix("module."): value
        for name, value in (state.items() if isinstance(state, dict) else ())
        if isinstance(name, str) and isinstance(value, torch.Tensor)
    }


def tensor_bytes(content: Any, most: float = float("inf")) -> int:
    """Total bytes of the tensor values in lists, tuples and dicts.

    Every value of a tensor counts, even if a stride of 0 lets values share memory.

    Args:
        content: Nested lists, tuples and dicts.
        most: Counting stops once the total exceeds this.
    """
    total, left = 0, [content]
    while left and total <= most:
        item = left.pop()
        if isinstance(item, torch.Tensor):
            total += item.numel() * item.itemsize
        elif isinstance(item, Mapping | list | tuple):
            total += CONTAINER + PLACE * len(item)
            left += item.values() if isinstance(item, Mapping) else item
    return total


class _Fault(Exception):
    """What is wrong with a file, as text for users."""


class _Nothing:
    """Replaces an object of a foreign class: accepts all calls, stores nothing, runs nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "_Nothing":
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def _take(self, *args: Any) -> None:
        pass

    __setstate__ = __setitem__ = append = extend = add = _take

    def __call__(self, *args: Any, **kwargs: Any) -> "_Nothing":
        return self


class _Zeros(_Nothing):
    """Replaces bytearray, which would allocate as many zeros as the file asks for."""

    def __init__(self, *args: Any) -> None:
        if any(isinstance(arg, int) for arg in args):
            raise _Fault("asks for memory instead of holding values")


class _Claims(pickle._Unpickler):
    """Walks through a pickle without building objects; collects the size each storage claims.

    It uses the Python unpickler, because a single operation (LONG_BINPUT) can make the C unpickler
    take all memory.
    """

    # BYTEARRAY8 is removed: it allocates as many zeros as a file asks for, and torch never uses it.
    dispatch = {k: v for k, v in pickle._Unpickler.dispatch.items() if k != pickle.BYTEARRAY8[0]}

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="utf-8")
        self.bytes: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> Any:
        """A class of that name that does nothing."""
        return _Zeros if name == "bytearray" else type(name, (_Nothing,), {})

    def persistent_load(self, pid: Any) -> Any:
        """Record a storage; torch writes `pid` as ("storage", class, key, location, items)."""
        _, kind, key, _, count = pid
        size = ITEM_BYTES[kind.__name__.removesuffix("Storage")] * count
        self.bytes[key] = max(size, self.bytes.get(key, 0))
        return _Nothing()


def _load(file: IO[bytes], most: int | None, drop_objects: bool, allow_pickle: bool) -> Any:
    size = file.seek(0, os.SEEK_END)
    most = SPREAD * size + SPARE if most is None else most
    names: list[str] = []
    if _from_start(file).read(len(ZIP)) == ZIP:
        _check_zip(file, size)
        if drop_objects:
            names = torch.serialization.get_unsafe_globals_in_checkpoint(_from_start(file))
    with torch.serialization.safe_globals([(_Nothing, name) for name in names]):
        content = torch.load(_from_start(file), map_location="cpu", weights_only=not allow_pickle)
    if tensor_bytes(content, most) > most:
        raise _Fault(f"its tensors have more than {most / 2**20:.0f} MiB of values")
    return content


def _from_start(file: IO[bytes]) -> IO[bytes]:
    file.seek(0)
    return file


def _check_zip(file: IO[bytes], size: int) -> None:
    """Raise _Fault if members are damaged or differ from what torch.save writes.

    torch.load trusts members to be as torch.save writes them.
    """
    if not zipfile.is_zipfile(file):
        raise _Fault("cut short, its end is missing")
    with zipfile.ZipFile(file) as archive:
        members = {member.filename: member for member in archive.infolist()}
        packed = any(m.compress_type != zipfile.ZIP_STORED for m in members.values())
        claimed = sum(member.file_size for member in archive.infolist())
        if packed or claimed > size or len(members) < len(archive.infolist()):
            raise _Fault(
                "its members are packed, overlap or are there twice, as no torch.save does"
            )
        damaged = archive.testzip()
        if damaged:
            raise _Fault(f"the checksum of {damaged} does not fit")
        folder = next(iter(members), "").partition("/")[0]
        if f"{folder}/data.pkl" not in members:
            raise _Fault("a zip, but not one of torch.save")
        with archive.open(f"{folder}/data.pkl") as structure:
            claims = _Claims(structure)
            claims.load()
        for key, claim in claims.bytes.items():
            if claim > members[f"{folder}/data/{key}"].file_size:
                raise _Fault(f"storage {key} has fewer bytes than the file claims")


def _lacks_memory(error: Exception) -> bool:
    text = str(error)  # torch's allocator raises a RuntimeError
    return isinstance(error, MemoryError) or "allocate memory" in text or "not enough mem" in text


def _reason(error: Exception) -> tuple[str, bool]:
    """Return what is wrong as a short clause, and whether the file needs code to be loaded."""
    if isinstance(error, _Fault):
        return str(error), False
    if isinstance(error, ModuleNotFoundError):
        return (
            f"holds objects of the module {error.name}, which is not installed here; save it once "
            "more where it is, with its `state_dict` and `meta` alone", False
        )  # fmt: skip
    foreign = re.search(r"GLOBAL (\S+)", str(error))
    if foreign:
        return f"holds {foreign[1]} besides tensors, which only running the file's code loads", True
    return type(error).__name__, False
