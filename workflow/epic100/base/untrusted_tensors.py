"""Tensor files of others: read by torch's own restricted loader, in a process with limits.

`torch.load(weights_only=True)` runs no code of a file. But a few bytes can make it allocate
gigabytes or never end, and what it returns may claim more values than the file holds. So it runs in
`guarded.call`. What comes out is checked, and reduced to dicts, lists and tuples of plain values
and of tensors that own their values. NumPy's arrays become tensors, or lists if they hold text.
"""

import codecs
import io
import os
import pickle
import re
import resource
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from epic100.base.disk import reading
from epic100.base.errors import BrokenFile, DiskError, EpicError
from epic100.base.guarded import FileError, ProcessError, call
from epic100.base.machine import limit_process
from epic100.base.torch_file import (
    NEEDS_CODE,
    TensorFileError,
    lacks_memory,
    reason,
    require_complete,
)

# A file may take MAX_EXPANSION times its bytes plus SPARE_BYTES of memory. The content of a good
# file is about as large as the file, and is in memory three times: as it was loaded, as copies, and
# as the bytes that are written.
MAX_EXPANSION, SPARE_BYTES = 4, 2**29
# A file may take SECONDS of CPU time, and one second more for each RATE bytes.
SECONDS, RATE = 20.0, 50e6
# The maximum number of levels of lists within lists.
DEEPEST = 40
# The entries of a checkpoint that are read for its weights alone; its optimizer is left out.
WEIGHTS = ("state_dict", "model_state", "meta")
# The types of tensors that are taken. Others have no plain numbers, or no reader besides torch.
NUMBERS = frozenset(
    {
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        *(torch.float8_e4m3fn, torch.float8_e5m2),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    }
)


def read_untrusted(
    path: str | os.PathLike,
    what: str,
    remedy: str,
    *,
    weights_alone: bool = False,
) -> Any:
    """Read a tensor file of unknown origin to the CPU.

    Args:
        path: The file.
        what: What was expected, for the error: "not {what} (why); {remedy}".
        remedy: What to do, for the error.
        weights_alone: Read only the entries `WEIGHTS` of a checkpoint, and read None for each
            object that only code can load, instead of rejecting the file.

    Returns:
        What was saved. Keys of dicts are text or integers, and no tensor shares its values.

    Raises:
        BrokenFile: The file is truncated, altered, not a tensor file, contains code, or asks for
            more than a file of its size can need.
        EpicError: The file is missing, or the machine failed. The file itself may be fine.
    """
    try:
        with reading(path) as file:
            # A disk that fails shows it at the first read.
            file.peek()
            size = file.seek(0, os.SEEK_END)
    except FileNotFoundError as error:
        raise EpicError(f"{path}: no such file; {remedy}") from error
    if not size:
        raise BrokenFile(f"{path}: not {what} (it is empty); {remedy}")
    # A longer file has more to check.
    seconds = SECONDS + size // RATE
    limits = _ProcessLimits(stall_seconds=seconds)
    with tempfile.TemporaryDirectory(prefix="epic100-") as folder:
        plain = Path(folder, "plain.pt")
        arguments = (os.fspath(path), os.fspath(plain), weights_alone)
        try:
            call(_write_plain, *arguments, limits=limits, seconds=seconds + 1)
        except ProcessError as error:
            raise EpicError(f"{path}: cannot be read: {error}") from error
        except FileError as error:
            raise BrokenFile(f"{path}: not {what} ({error}); {remedy}") from error
        return torch.load(plain, map_location="cpu", weights_only=True)


def named_tensors(content: Any) -> dict[str, torch.Tensor]:
    """Return the tensors of a state_dict by name; the dict may be plain or inside a checkpoint.

    PySlowFast's checkpoints call it `model_state`. The prefix `module.` that distributed training
    adds to each name is removed.
    """
    state = content
    if isinstance(content, dict):
        state = content.get("state_dict", content.get("model_state", content))
    return {
        name.removeprefix("module."): value
        for name, value in (state.items() if isinstance(state, dict) else ())
        if isinstance(name, str) and isinstance(value, torch.Tensor)
    }


def require_finite(path: str | os.PathLike, tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise if a weight is NaN or infinite.

    Args:
        path: The file of the weights, for the error.
        tensors: The weights that are used. Others, e.g. a mask, may be infinite.

    Raises:
        BrokenFile: A weight is NaN or infinite.
    """
    for name, tensor in tensors.items():
        # `isfinite` does not know all types of 8 bits.
        if not tensor.float().isfinite().all():
            raise BrokenFile(
                f"{path}: {name} has NaN or infinite weights, as if its training had diverged; "
                "take an earlier checkpoint, or download it again"
            )


@dataclass
class _ProcessLimits:
    """Limits for `guarded.call`; the called function limits its memory itself."""

    stall_seconds: float
    memory_mib: int = 0


def _write_plain(
    source: str, target: str, weights_alone: bool, progress: Callable[[int], None]
) -> None:
    """Write what is plain in a tensor file to another one. This runs in the guarded process.

    Args:
        source: The tensor file.
        target: The file to write.
        weights_alone: As for `read_untrusted`.
        progress: Not used, but `guarded.call` passes it to each function.

    Raises:
        FileError: The file is wrong.
        DiskError: The disk fails.
    """
    torch.set_num_threads(1)  # Each thread would take address space.
    # A longer file may need more memory, and more bytes for what is written.
    size = os.path.getsize(source)
    extra_bytes = SPARE_BYTES + MAX_EXPANSION * size
    memory_limit = psutil.Process().memory_info().vms + extra_bytes
    limit_process({resource.RLIMIT_AS: memory_limit, resource.RLIMIT_FSIZE: extra_bytes})
    try:
        content = _load(source, weights_alone)
        if weights_alone and isinstance(content, dict):
            weights = {key: content[key] for key in WEIGHTS if key in content}
            content = weights or content
        torch.save(_Reducer(size, weights_alone).plain(content), target)
    except DiskError:
        raise
    except Exception as error:  # Torch and zipfile raise many types of errors for a wrong file.
        if lacks_memory(error):
            raise FileError(
                "asks for more memory than a file of its size needs, or than `ulimit -v` allows"
            ) from error
        raise FileError(reason(error)) from error


def _load(source: str, drop_objects: bool) -> Any:
    """Load a zip of torch, an old file of torch, or a pickle, with no class but the allowed ones.

    Args:
        source: The file.
        drop_objects: Load objects of other classes as placeholders instead of rejecting the file.
    """
    with reading(source) as file:
        is_zip = require_complete(file)
        # Other files are pickles, from torch before 1.6 or from any program.
        if not is_zip and (content := _Unpickler(file).load()) != torch.serialization.MAGIC_NUMBER:
            return content
    # Each name of another class, and the plain class whose objects are used instead.
    replacements: dict[str, type] = {}
    if is_zip and drop_objects:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(source)
        replacements = dict.fromkeys({*names} - NUMPY.keys(), _Placeholder)
    while True:
        allowed: list[Any] = [(stand_in, name) for name, stand_in in NUMPY.items()]
        for name, replacement in replacements.items():
            placeholder = type(name, (_Placeholder,), {"replacement": replacement})
            allowed.append((placeholder, name))
        try:
            with torch.serialization.safe_globals(allowed):
                return torch.load(source, map_location="cpu", weights_only=True, mmap=False)
        except pickle.UnpicklingError as error:
            # Torch fills only plain dicts and lists. Which classes are subclasses of them is not
            # known before it says so, once for each class.
            found = re.search(rf"Can only (.*), but got <class '{__name__}\.(.+?)'>", str(error))
            if not found or found[2] not in replacements:
                raise
            replacements[found[2]] = list if "lists" in found[1] else OrderedDict


class _Placeholder:
    """Replace an object of a class of others: take any arguments, store nothing, run nothing.

    Attributes:
        replacement: The plain class whose objects are used instead.
    """

    replacement: type

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Return an empty object, whatever the arguments."""
        is_filled = cls.replacement is not _Placeholder
        return cls.replacement() if is_filled else super().__new__(cls)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Reject an item, as torch 2.13 does by itself; torch 2.7.1 calls this."""
        raise pickle.UnpicklingError(f"Can only fill dicts, but got {type(self)}")

    def __setstate__(self, state: Any) -> None:
        """Drop the state, since the object only stands for one of a class that is not allowed."""


# NumPy's own classes take from a pickle what no file may say: a data type whose state turns bytes
# of the file into pointers. So the classes below stand in their place
# (numpy/_core/src/multiarray/descriptor.c, `arraydescr_setstate`, and methods.c, `array_setstate`,
# have the form of the states).

# The kinds of data types: booleans, integers, numbers, text and bytes.
PLAIN_KINDS = "biufUS"


class _PlainType:
    """The data type of an array. Its state says the order of bytes alone.

    Attributes:
        dtype: The type; that of objects means that the array is a list of them (`_PlainArray`).
    """

    def __init__(self, name: Any, *flags: Any) -> None:
        """Take the name of a plain data type, e.g. `f4`.

        Args:
            name: The name.
            *flags: Whether to align and to copy, which means nothing for plain types.
        """
        self.dtype = np.dtype(name if isinstance(name, str) else "V")
        if self.dtype.kind not in PLAIN_KINDS + "O":
            raise TensorFileError(
                f"holds an array of {str(name)[:20]}; expected plain numbers or text"
            )

    def __setstate__(self, state: Any) -> None:
        """Take the second value of the state, the order of bytes: `<`, `>`, `=` or `|`."""
        self.dtype = self.dtype.newbyteorder(state[1])


class _PlainArray:
    """An array as its pickle describes it.

    Attributes:
        content: A tensor of the numbers, or nested lists of the text; of no axis, one value.
    """

    def __init__(self, *empty: Any) -> None:
        """Begin an array, whose state follows.

        Args:
            *empty: The class, shape and type of an empty array, which are not used.
        """
        self.content: Any = torch.zeros(0, dtype=torch.float64)

    def __setstate__(self, state: Any) -> None:
        """Take the version, the shape, the type, whether columns come first, and the bytes."""
        _, shape, plain_type, columns_first, data = state
        if plain_type.dtype.kind == "O":
            # PySlowFast has texts as objects. The list is checked value by value, as any other.
            if not isinstance(data, list) or len(shape) != 1:
                raise TensorFileError("holds an array of objects; expected one list of texts")
            self.content = data
            return
        values = np.frombuffer(data, plain_type.dtype)
        array = values.reshape(shape, order="F" if columns_first else "C")
        if array.dtype.kind in "US" or array.ndim == 0:
            self.content = array.tolist()
        else:
            self.content = torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))


def _from_buffer(data: Any, plain_type: _PlainType, shape: Any, order: str) -> _PlainArray:
    """Make an array from bytes, as pickles of protocol 5 do."""
    array = _PlainArray()
    array.__setstate__((1, shape, plain_type, order == "F", data))
    return array


def _number(plain_type: _PlainType, data: bytes) -> _PlainArray:
    """Make a single number or text from its bytes."""
    return _from_buffer(data, plain_type, (), "C")


# This table has the stand-in of each name. NumPy 1 has another name for some modules.
NUMPY: dict[str, Any] = {
    "_codecs.encode": codecs.encode,
    "numpy.ndarray": _PlainArray,
    "numpy.dtype": _PlainType,
    "numpy.core.multiarray._reconstruct": _PlainArray,
    "numpy._core.multiarray._reconstruct": _PlainArray,
    "numpy.core.multiarray.scalar": _number,
    "numpy._core.multiarray.scalar": _number,
    "numpy.core.numeric._frombuffer": _from_buffer,
    "numpy._core.numeric._frombuffer": _from_buffer,
}


class _Unpickler(pickle.Unpickler):
    """Unpickle plain values, arrays of NumPy and tensors; reject any other class."""

    allowed: Mapping[str, Any] = NUMPY | {
        "collections.OrderedDict": OrderedDict,
        "torch._utils._rebuild_tensor_v2": torch._utils._rebuild_tensor_v2,
        # Torch loads a tensor's storage from bytes within the pickle, again without running code.
        "torch.storage._load_from_bytes": lambda data: torch.load(
            io.BytesIO(data), map_location="cpu", weights_only=True
        ),
    }

    def find_class(self, module: str, name: str) -> Any:
        """Return the class or function that the pickle names, if it is an allowed one."""
        if (full_name := f"{module}.{name}") not in self.allowed:
            raise TensorFileError(f"holds {full_name} besides tensors, {NEEDS_CODE}")
        return self.allowed[full_name]


class _Reducer:
    """Reduce the content of a file to plain values, and to tensors that own their values."""

    def __init__(self, size: int, drop_objects: bool) -> None:
        """Allow as many values and bytes as a file of this size may hold.

        Args:
            size: Bytes of the file. A value takes at least one of them.
            drop_objects: Put None in place of objects that are neither tensors nor plain values,
                instead of rejecting the file.
        """
        self._values_left = size
        self._bytes_left = MAX_EXPANSION * size
        self._drop_objects = drop_objects

    def plain(self, value: Any, depth: int = 0) -> Any:
        """Copy a value; raise TensorFileError if it is not plain, or larger than its file."""
        self._values_left -= 1
        if self._values_left < 0 or depth > DEEPEST:
            raise TensorFileError("holds more values than its bytes, or lists too deep in lists")
        if isinstance(value, _PlainArray):
            value = value.content
        if isinstance(value, torch.Tensor):
            return self._own_values(value)
        if isinstance(value, Mapping):
            if not all(isinstance(key, str | int) for key in value):
                raise TensorFileError("holds a dict whose keys are neither text nor integers")
            return {key: self.plain(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple):
            items = [self.plain(item, depth + 1) for item in value]
            return tuple(items) if isinstance(value, tuple) else items
        if value is None or isinstance(value, str | int | float):
            return value
        if self._drop_objects:
            return None
        raise TensorFileError(f"holds a {type(value).__name__}; expected tensors and plain values")

    def _own_values(self, tensor: torch.Tensor) -> torch.Tensor:
        """Copy a tensor, so that the copy shares its values with no other one."""
        is_plain = type(tensor) in (torch.Tensor, torch.nn.Parameter) and not tensor.is_nested
        if not is_plain or tensor.layout != torch.strided or tensor.device.type != "cpu":
            raise TensorFileError("holds a sparse, nested or meta tensor; expected plain ones")
        if tensor.dtype not in NUMBERS:
            raise TensorFileError(f"holds a tensor of {tensor.dtype}; expected plain numbers")
        self._bytes_left -= tensor.nbytes
        # A tensor may claim to be larger than its storage, by strides of 0.
        if tensor.nbytes > tensor.untyped_storage().nbytes() or self._bytes_left < 0:
            raise TensorFileError("its tensors have more values than it can hold")
        return tensor.detach().clone(memory_format=torch.contiguous_format)
