"""What comes from a file must be as its dataclass says, before anything else looks at it.

The annotations of the dataclass are the description: pydantic checks plain values, and `Array`
arrays and tensors. Files of arrays (`.npz`), which others may have written, are opened here alone.
"""

import os
import reprlib
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import (
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
)
from pydantic_core.core_schema import CoreSchema, with_info_after_validator_function

from epic100.base.disk import reading
from epic100.base.errors import BrokenFile, DiskError
from epic100.base.names import NAME

STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True, revalidate_instances="always")
Id = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
Count = Annotated[int, Field(ge=0, lt=2**53)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Value = TypeVar("Value")
# Packed arrays may unpack to so many bytes. The index of an hour of video has about 4 MiB.
LARGEST = 2**29

# It shortens values, since the whole repr of lists within lists may take gigabytes.
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 60, 60


@contextmanager
def opened_arrays(
    path: str | os.PathLike, form: str, what: str, remedy: str
) -> Iterator[Mapping[str, np.ndarray]]:
    """Open a file of arrays. What the block raises counts as a fault of the file.

    Args:
        path: The file.
        form: What its array `format` must say.
        what: What was expected, for the error: "not {what} (why); {remedy}".
        remedy: What to do, for the error.

    Yields:
        The arrays by name, each read when it is asked for.

    Raises:
        DiskError: The disk fails.
        BrokenFile: It is no such file, is not whole, or a packed one of more than 512 MiB.
    """
    try:
        with reading(path) as file:
            # This read shows that a disk fails, which zipfile might not notice.
            file.peek()
            with zipfile.ZipFile(file) as archive:
                unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > max(LARGEST, 2 * file.seek(0, os.SEEK_END)):
                raise ValueError(f"{unpacked / 2**20:.0f} MiB unpacked, at most {LARGEST >> 20}")
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                if str(arrays["format"]) != form:
                    raise ValueError(f"of another version than {form!r}")
                yield arrays
    except DiskError:
        raise
    except Exception as error:
        # For a wrong file, zipfile, numpy and the block raise many kinds of errors. A message may
        # repeat a name of any length from the zip, or hold characters that cannot be encoded.
        message = " ".join(str(error).split())[:200].encode("ascii", "backslashreplace").decode()
        raise BrokenFile(
            f"{path}: not {what} ({type(error).__name__}: {message}); {remedy}"
        ) from error


def conforming(value: Value) -> Value:
    """Check a dataclass of strict types.

    Args:
        value: An object of a dataclass whose `__pydantic_config__` is `STRICT`.

    Returns:
        An equal object.

    Raises:
        ValueError: A field is not as its annotation says. The message names it, in one line.
    """
    lengths: dict[str, int] = {}
    try:
        value = TypeAdapter(type(value)).validate_python(value, context=lengths)
    except ValidationError as error:
        first = error.errors()[0]
        field_path = ".".join(map(str, first["loc"]))[:60]
        # `Array` raises this type, and its message describes the value already.
        is_from_array = first["type"] == "value_error"
        value_text = "" if is_from_array else f" is {_SHORT.repr(first['input'])}"
        raise ValueError(f"its {field_path}{value_text}: {first['msg']}") from error
    for name in lengths.keys() & vars(value).keys():
        field_value = getattr(value, name)
        _agree(lengths, name, field_value if isinstance(field_value, int) else len(field_value))
    return value


@dataclass(frozen=True)
class Array:
    """For `Annotated`: what an array or a tensor must be.

    Attributes:
        kinds: The letters of NumPy's kinds that it may have.
        shape: A word for each axis, separated by spaces. Axes with the same word have the same
            length. A field of that name has it too: a list of so many items, or the number. A word
            of digits is the length.
        least: The smallest value that is allowed. NaN and infinity never are.
        most: The largest value that is allowed.
        rises: Whether no row has a smaller value than the row before.
    """

    kinds: str
    shape: str
    least: float = -np.inf
    most: float = np.inf
    rises: bool = False

    def __get_pydantic_core_schema__(self, of: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def apply(value: Any, info: ValidationInfo) -> Any:
            self.check(value, info.context)
            return value

        return with_info_after_validator_function(apply, handler(of))

    def check(self, value: Any, lengths: Any) -> None:
        """Raise ValueError if it is not so; `lengths` are those known, by word."""
        axes = self.shape.split()
        try:
            array = np.asarray(value)
        except (TypeError, RuntimeError) as error:
            # It may be a tensor that is sparse, nested or on no device.
            raise ValueError(f"holds no plain numbers ({type(error).__name__})") from error
        if array.dtype.kind not in self.kinds or array.ndim != len(axes):
            raise ValueError(f"is {array.dtype} {list(array.shape)}, expected [{self.shape}]")
        for axis, length in zip(axes, array.shape, strict=True):
            _agree(lengths, axis, length)
        if array.size and not self._within(np.array([array.min(), array.max()])).all():
            bad = np.flatnonzero(~self._within(array).reshape(len(array), -1).all(axis=1))
            raise ValueError(
                f"{len(bad)} of [{self.shape}] hold NaN, infinity or what is not {self.least} to "
                f"{self.most}, the first is number {bad[0]}"
            )
        if self.rises and (array[1:] < array[:-1]).any():
            raise ValueError("the values do not rise from row to row")

    def _within(self, values: np.ndarray) -> np.ndarray:
        return np.isfinite(values) & (values >= self.least) & (values <= self.most)


def _agree(lengths: Any, axis: str, length: int) -> None:
    known = lengths.setdefault(axis, int(axis) if axis.isdecimal() else length)
    if known != length:
        raise ValueError(f"{length} {axis}, but {known} elsewhere in the file")
