"""Tensor files of others: taken apart in a process with limits, and handed over as plain values.

`torch.load(weights_only=True)` runs no code of a file, but a few bytes can make it allocate
gigabytes or never end, and what it gives may claim more values than the file holds. So it runs in
`guarded.call`, on a copy whose members are written anew: the copy has the bytes that were checked,
however its reader understands a zip. A pickle that is no file of torch is read the same way. What
comes out is reduced to dicts, lists and tuples of plain values and tensors that own their values;
NumPy's arrays become tensors, or lists if they hold text. It is handed over as safetensors, in
which the structure is text. This process reads nothing else.

It is done once for each file: a run keeps the result in a cache, by the digest of the file.
"""

import codecs
import io
import json
import os
import pickle
import pkgutil
import re
import resource
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import psutil
import safetensors.torch
import torch

from epic100.base.atomic import atomic_path
from epic100.base.disk import digest, reading
from epic100.base.errors import BrokenFile, DiskError, EpicError
from epic100.base.folders import make_folder
from epic100.base.guarded import FileError, ProcessError, call
from epic100.base.machine import limit_process
from epic100.base.torch_file import (
    NEEDS_CODE,
    Fault,
    lacks_memory,
    reason,
    require_whole,
    too_little_memory,
)

CACHE = Path(".snakemake/epic100-tensors")
# The cache has so many results, the newest ones.
KEPT = 8
# A file may take MAX_EXPANSION times its bytes plus SPARE_BYTES of memory. The content of a sound
# file is about as large as the file, and is in memory three times: as it was loaded, as copies, and
# as the bytes that are written.
MAX_EXPANSION, SPARE_BYTES = 4, 2**29
# A file may take SECONDS, and one second more for each RATE bytes.
SECONDS, RATE = 20.0, 50e6
# The most levels of lists within lists.
DEEPEST = 40
# The most bytes of the structure (lists, dicts and plain values) as text.
LONGEST = 2**24
# The name of the structure among the tensors of a result, whose own names are numbers.
STRUCTURE = "structure"
# The entries of a checkpoint that are read for its weights alone; its optimizer is left out.
WEIGHTS = ("state_dict", "model_state", "meta")

# These calls build arrays and numbers of NumPy, and no file can make them do anything else. The
# modules of some have another name in NumPy 1, so both names are listed.
NUMPY: dict[str, Any] = {
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    "_codecs.encode": codecs.encode,
    **{f"numpy.dtypes.{name}": getattr(np.dtypes, name) for name in np.dtypes.__all__},
    **{
        f"{core}.{name}": pkgutil.resolve_name(f"numpy._core.{name}")
        for core in ("numpy.core", "numpy._core")
        for name in ("multiarray._reconstruct", "multiarray.scalar", "numeric._frombuffer")
    },
}


@dataclass
class ProcessLimits:
    """Limits for `guarded.call`; the called function limits its memory itself (`limit_memory`)."""

    stall_seconds: float
    memory_mib: int = 0


def read_foreign(
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
            object that only code can load, instead of refusing the file.

    Returns:
        What was saved. Keys of dicts are text or integers, and no tensor shares its values.

    Raises:
        BrokenFile: The file is truncated, altered, not a tensor file, contains code, or asks for
            more than a file of its size can need.
        EpicError: The file is missing, or the machine is at fault. The file itself may be fine.
    """
    try:
        sha256 = digest(path, "sha256").value
    except FileNotFoundError as error:
        raise EpicError(f"{path}: no such file; {remedy}") from error
    with kept_by_digest() as folder:
        result = folder / (f"{sha256}-weights" if weights_alone else sha256)
        with suppress(Exception):  # There may be no result yet, or a broken one.
            return _read_result(result)
        try:
            with atomic_path(result) as temporary:
                # Only a process with limits unpickles the file. Its result is kept by digest as
                # safetensors, which no code can hide in, and is read here.
                limited_call(
                    _rewrite_as_safetensors,
                    str(path),
                    str(temporary),
                    weights_alone,
                    file=path,
                    size=os.path.getsize(path),
                )
        except FileError as error:
            raise BrokenFile(f"{path}: not {what} ({error}); {remedy}") from error
        return _read_result(result)


def named_tensors(content: Any) -> dict[str, torch.Tensor]:
    """Return the tensors of a state_dict by name; the dict may be plain or inside a checkpoint.

    PySlowFast's checkpoints call it `model_state`. The prefix `module.` that distributed training
    adds to each name is removed.
    """
    is_dict = isinstance(content, dict)
    state = content.get("state_dict", content.get("model_state", content)) if is_dict else {}
    return {
        name.removeprefix("module."): value
        for name, value in (state.items() if isinstance(state, dict) else ())
        if isinstance(name, str) and isinstance(value, torch.Tensor)
    }


def require_finite(path: str | os.PathLike, tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise if a weight is NaN or infinite.

    Args:
        path: The file of the weights, for the error.
        tensors: The weights that are used. A mask beside them may be infinite.

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


def limited_call(
    function: Callable[..., Any], *arguments: Any, file: str | os.PathLike, size: int
) -> Any:
    """Call a function in a guarded process whose time limit grows with the size of a file.

    Args:
        function: The function to call, as for `guarded.call`.
        *arguments: Its arguments.
        file: The file, for the error.
        size: Bytes of the file.

    Raises:
        FileError: The content is at fault.
        EpicError: The machine is at fault; the message names the file.
    """
    seconds = SECONDS + size // RATE
    try:
        return call(function, *arguments, limits=ProcessLimits(seconds), seconds=seconds + 1)
    except ProcessError as error:
        raise EpicError(f"{file}: cannot be read: {error}") from error


def fault_of_building(
    key: str, build: Callable[..., Any], *arguments: Any, file: str | os.PathLike, size: int
) -> str:
    """Try to build a model from a foreign file in a limited process; return why it fails.

    A success is noted in the cache under `key`, so this run does not try again.

    Args:
        key: A digest of everything that the result depends on.
        build: Builds the model from the arguments. It calls `limit_memory` itself, once it has
            imported what it needs.
        *arguments: Its arguments, which are pickled.
        file: The file of the weights, for errors of the machine.
        size: Bytes of the weights.

    Returns:
        Why it cannot be built; "" if it can.

    Raises:
        EpicError: The machine is at fault.
    """
    with kept_by_digest() as folder:
        if (folder / key).exists():
            return ""
        try:
            fault: str = limited_call(_build_or_say_why_not, build, arguments, file=file, size=size)
        except FileError as error:
            fault = f"{error}: larger than its weights, or too slow"
        if not fault:
            (folder / key).touch()
        return fault


def _build_or_say_why_not(
    build: Callable[..., Any], arguments: tuple, progress: Callable[[int], None]
) -> str:
    """Build a model; return the reason if that fails, else "". It runs in the guarded process.

    Args:
        build: Builds the model.
        arguments: The arguments of `build`.
        progress: Not used, but `guarded.call` passes it to each function.
    """
    try:
        build(*arguments)
    except Exception as error:  # Constructors raise all kinds of errors for wrong values.
        if lacks_memory(error):
            return "its config asks for a model larger than its weights"
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return ""


def limit_memory(size: int) -> bool:
    """Limit the memory of this process; return whether the machine's own limit is even lower.

    The process may allocate only so many bytes more, write no file of more bytes than these, and
    use only one thread.

    Args:
        size: Bytes of the file that is read; the limits grow with it.

    Returns:
        Whether the system's own limit on memory is lower than the one that is set here. If so, and
        if the memory does not suffice, the machine is at fault and not the file.
    """
    torch.set_num_threads(1)  # Each thread would take address space.
    extra_bytes = SPARE_BYTES + MAX_EXPANSION * size
    memory_limit = psutil.Process().memory_info().vms + extra_bytes
    _, hard_limit = resource.getrlimit(resource.RLIMIT_AS)
    limit_process({resource.RLIMIT_AS: memory_limit, resource.RLIMIT_FSIZE: extra_bytes})
    return hard_limit != resource.RLIM_INFINITY and hard_limit < memory_limit


@contextmanager
def kept_by_digest() -> Iterator[Path]:
    """Yield the cache folder for results that are named by a digest; then keep the `KEPT` newest.

    If there is no run's folder here that can be written, yield a temporary folder.
    """
    if CACHE.parent.is_dir() and os.access(CACHE.parent, os.W_OK):
        make_folder(CACHE)
        yield CACHE
        with suppress(FileNotFoundError):  # Another process may remove the same result.
            for old in sorted(CACHE.glob("[!.]*"), key=os.path.getmtime)[:-KEPT]:
                old.unlink()
    else:
        with tempfile.TemporaryDirectory(prefix="epic100-") as folder:
            yield Path(folder)


def _read_result(result: Path) -> Any:
    """Read a result: the tensors of the file, put into the structure stored beside them as JSON."""
    tensors = safetensors.torch.load(result.read_bytes())
    text = bytes(tensors.pop(STRUCTURE).numpy())
    return json.loads(text, object_hook=partial(_from_json_object, tensors))


def _from_json_object(tensors: Mapping[str, torch.Tensor], json_object: dict[str, Any]) -> Any:
    """Turn `{"tensor": NAME}`, `{"tuple": [...]}` or `{"dict": [[key, value], ...]}` into a value.

    `_Reducer.plain` writes these objects.
    """
    ((type_name, content),) = json_object.items()
    if type_name == "tensor":
        return tensors[content]
    return tuple(content) if type_name == "tuple" else dict(content)


def _rewrite_as_safetensors(
    source: str, target: str, weights_alone: bool, progress: Callable[[int], None]
) -> None:
    """Write the content of a tensor file as safetensors. This runs in the guarded process.

    Args:
        source: The tensor file.
        target: The file to write, which `atomic_path` has made and locked.
        weights_alone: As for `read_foreign`.
        progress: Not used, but `guarded.call` passes it to each function.

    Raises:
        FileError: The file is at fault.
        DiskError: The disk or the machine is at fault.
    """
    size = os.path.getsize(source)
    is_machine_limit = limit_memory(size)
    try:
        with reading(source) as file:
            content = _load_foreign(file, target, weights_alone)
        if weights_alone and isinstance(content, dict) and any(key in content for key in WEIGHTS):
            content = {key: content[key] for key in WEIGHTS if key in content}
        reducer = _Reducer(size, weights_alone)
        text = json.dumps(reducer.plain(content)).encode()
        if len(text) > LONGEST:
            raise Fault(f"holds more than {LONGEST >> 20} MiB of texts and numbers")
    except DiskError:
        raise
    except Exception as error:  # Torch and zipfile raise many kinds of errors for a wrong file.
        if not lacks_memory(error):
            raise FileError(reason(error)) from error
        if is_machine_limit:
            raise DiskError(too_little_memory(source)) from error
        raise FileError("asks for more memory than a file of its size needs") from error
    reducer.tensors[STRUCTURE] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    # The bytes go into the file that is there already, since `atomic_path` has locked it. The
    # function `save_file` of safetensors would put a new file without this lock in its place. The
    # write first empties the file, whose bytes `content` may map (`_load_foreign` puts its copy
    # there). This does no harm: `content` is not read again, since the reducer has its own tensors.
    try:
        Path(target).write_bytes(safetensors.torch.save(reducer.tensors))
    except OSError as error:
        raise DiskError(f"{target}: not written: {error}") from error


def _load_foreign(file: IO[bytes], copy: str, drop_objects: bool) -> Any:
    """Load a zip of torch, an old file of torch, or a pickle, with no class but the allowed ones.

    Args:
        file: The file.
        copy: Path for a copy of a zip with the same members, which torch then reads.
        drop_objects: Load objects of other classes as placeholders instead of refusing the file.
    """
    numpy_globals: list[Any] = [(value, name) for name, value in NUMPY.items()]
    if not require_whole(file):
        # The file is a pickle, from torch before 1.6 or from any program.
        if (content := _Unpickler(file).load()) != torch.serialization.MAGIC_NUMBER:
            return content
        file.seek(0)
        with torch.serialization.safe_globals(numpy_globals):
            return torch.load(file, map_location="cpu", weights_only=True)
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(copy, "w") as new:
        # A seek to the end returns the size of the file.
        unpacked = sum(member.file_size for member in old.infolist())
        if unpacked > MAX_EXPANSION * file.seek(0, os.SEEK_END):
            raise Fault("a zip whose members are much larger than it is")
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
    class_names = torch.serialization.get_unsafe_globals_in_checkpoint(copy) if drop_objects else []
    replacement_by_name = {name: object for name in class_names if name not in NUMPY}
    while True:
        placeholders = [
            (type(name, (_Placeholder,), {"replacement": replacement}), name)
            for name, replacement in replacement_by_name.items()
        ]
        try:
            with torch.serialization.safe_globals([*numpy_globals, *placeholders]):
                return torch.load(copy, map_location="cpu", weights_only=True, mmap=True)
        except pickle.UnpicklingError as error:
            # Torch fills only plain dicts and lists. Which classes are subclasses of them is not
            # known before it says so, once for each class.
            found = re.search(rf"Can only (.*), but got <class '{__name__}\.(.+?)'>", str(error))
            if not found or found[2] not in replacement_by_name:
                raise
            replacement_by_name[found[2]] = list if "lists" in found[1] else OrderedDict


class _Unpickler(pickle.Unpickler):
    """Unpickle plain values, arrays of NumPy and tensors; refuse any other class."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the class or function that the pickle names, if it is an allowed one."""
        allowed = NUMPY | {
            "collections.OrderedDict": OrderedDict,
            "torch._utils._rebuild_tensor_v2": torch._utils._rebuild_tensor_v2,
            "torch.storage._load_from_bytes": self._load_storage,
        }
        if (full_name := f"{module}.{name}") not in allowed:
            raise Fault(f"holds {full_name} besides tensors, {NEEDS_CODE}")
        return allowed[full_name]

    @staticmethod
    def _load_storage(data: bytes) -> Any:
        """Load a tensor's storage from bytes within the pickle, again without running code."""
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


class _Placeholder:
    """Replace an object of a foreign class: take any arguments, store nothing, run nothing.

    Attributes:
        replacement: The plain class whose objects take the place of those of the class.
    """

    replacement: type = object

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Return an empty object, whatever the arguments."""
        is_filled = cls.replacement is not object
        return cls.replacement() if is_filled else super().__new__(cls)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Refuse an item, as torch 2.13 does by itself; torch 2.7.1 calls this."""
        raise pickle.UnpicklingError(f"Can only fill dicts, but got {type(self)}")

    def __setstate__(self, state: Any) -> None:
        """Drop the state, since the object only stands for one of a class that is not allowed."""


class _Reducer:
    """Reduce the content of a file to tensors by name, and a structure that JSON can hold.

    Attributes:
        tensors: Copies of all tensors, which own their values. The names are numbers.
    """

    def __init__(self, size: int, drop_objects: bool) -> None:
        """Allow as many values and bytes as a file of this size may hold.

        Args:
            size: Bytes of the file. A value takes at least one of them.
            drop_objects: Put None in place of objects that are neither tensors nor plain values,
                instead of refusing the file.
        """
        self._values_left = size
        self._bytes_left = MAX_EXPANSION * size
        self._drop_objects = drop_objects
        self.tensors: dict[str, torch.Tensor] = {}

    def plain(self, value: Any, depth: int = 0) -> Any:
        """Return a value as JSON has it: a tuple becomes `{"tuple": [...]}`, dicts alike.

        A tensor becomes `{"tensor": NAME}`, and is added to `tensors`.
        """
        self._values_left -= 1
        if self._values_left < 0 or depth > DEEPEST:
            raise Fault("holds more values than its bytes, or lists too deep in lists")
        if isinstance(value, np.ndarray | np.generic):
            is_numeric = isinstance(value, np.ndarray) and value.dtype.kind in "biuf"
            value = torch.from_numpy(value) if is_numeric else value.tolist()
        if isinstance(value, torch.Tensor):
            return {"tensor": self._add_tensor(value)}
        if isinstance(value, Mapping):
            if not all(isinstance(key, str | int) for key in value):
                raise Fault("holds a dict whose keys are neither text nor integers")
            return {"dict": [[key, self.plain(item, depth + 1)] for key, item in value.items()]}
        if isinstance(value, list | tuple):
            items = [self.plain(item, depth + 1) for item in value]
            return {"tuple": items} if isinstance(value, tuple) else items
        if value is None or isinstance(value, str | int | float):
            return value
        if self._drop_objects:
            return None
        raise Fault(f"holds a {type(value).__name__}; expected tensors and plain values")

    def _add_tensor(self, tensor: torch.Tensor) -> str:
        """Copy a tensor into `tensors`, and return its name there."""
        is_plain = type(tensor) in (torch.Tensor, torch.nn.Parameter) and not tensor.is_nested
        if not is_plain or tensor.layout != torch.strided or tensor.device.type != "cpu":
            raise Fault("holds a sparse, nested or meta tensor; expected plain ones")
        if tensor.is_quantized or tensor.is_complex():
            raise Fault(f"holds a tensor of {tensor.dtype}; expected plain numbers")
        self._bytes_left -= tensor.nbytes
        # A tensor may claim to be larger than its storage, by strides of 0.
        if tensor.nbytes > tensor.untyped_storage().nbytes() or self._bytes_left < 0:
            raise Fault("its tensors have more values than it can hold")
        name = str(len(self.tensors))
        self.tensors[name] = tensor.detach().clone(memory_format=torch.contiguous_format)
        return name
