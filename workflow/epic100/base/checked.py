"""Checks of values from a file against their dataclass, before other code uses them.

The annotations of the dataclass are the description: pydantic checks plain values, and `Array`
arrays and tensors. Files of arrays (`.npz`), which others may have written, are opened here alone.
"""

import os
import reprlib
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, cast

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
from epic100.base.errors import NAME, BrokenFile, DiskError

# With it, pydantic takes no text for a number.
STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True, revalidate_instances="always")
Id = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
# An integer from 0 on that a float holds exactly.
Count = Annotated[int, Field(ge=0, lt=2**53)]
# A finite number from 0 on.
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Value = TypeVar("Value")
# The maximum number of bytes to which the arrays of a file may unpack. The index of an hour of
# video has about 4 MiB.
LARGEST = 2**29

# It shortens values in messages, since the complete repr of lists within lists may take gigabytes.
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 60, 60


@contextmanager
def opened_arrays(
    path: str | os.PathLike, form: str, what: str, remedy: str
) -> Iterator[Mapping[str, np.ndarray]]:
    """Open a file of arrays (`.npz`). Any error within the block counts as a defect of the file.

    Args:
        path: The file.
        form: The text that the array `format` of the file must hold, which names its version.
        what: What was expected, for the error: "not {what} (why); {remedy}".
        remedy: What to do, for the error.

    Yields:
        The arrays by name, each read when it is asked for.

    Raises:
        DiskError: The disk fails.
        BrokenFile: The file is no `.npz` of this form, is not complete, or unpacks to more than 512
            MiB (`LARGEST`) and more than twice the bytes of the file.
    """
    try:
        with reading(path) as file:
            # This read shows that a disk fails, which zipfile might not notice.
            file.peek()
            with zipfile.ZipFile(file) as archive:
                unpacked = sum(member.file_size for member in archive.infolist())
            # A seek to the end returns the size of the file.
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
        # For a wrong file, zipfile, numpy and the block raise many types of errors. A message may
        # repeat a name of any length from the zip, or hold characters that cannot be encoded.
        message = " ".join(str(error).split())[:200].encode("ascii", "backslashreplace").decode()
        raise BrokenFile(
            f"{path}: not {what} ({type(error).__name__}: {message}); {remedy}"
        ) from error


def conforming(value: Value) -> Value:
    """Check that the fields of a dataclass have the types and shapes of their annotations.

    Args:
        value: An object of a dataclass whose `__pydantic_config__` is `STRICT`.

    Returns:
        An equal object.

    Raises:
        ValueError: A field is not as its annotation says. The message names it, in one line.
    """
    # The lengths of axes by their names. Each `Array` that is validated adds those of its axes, or
    # compares them if they are there already.
    lengths: dict[str, int] = {}
    try:
        value = TypeAdapter(type(value)).validate_python(value, context=lengths)
    except ValidationError as error:
        first_error = error.errors()[0]
        field_path = ".".join(map(str, first_error["loc"]))[:60]
        # `Array` raises the type `value_error`, and its message describes the value already.
        value_text = (
            ""
            if first_error["type"] == "value_error"
            else f" is {_SHORT.repr(first_error['input'])}"
        )
        raise ValueError(f"its {field_path}{value_text}: {first_error['msg']}") from error
    # A field with the name of an axis must have its length too: a list, or the number itself.
    for name in lengths.keys() & vars(value).keys():
        field_value = getattr(value, name)
        length = field_value if isinstance(field_value, int) else len(field_value)
        _require_same_length(lengths, name, length)
    return value


@dataclass(frozen=True)
class Array:
    """Requirements on an array or a tensor, for `Annotated`: its data type, shape and values.

    `Annotated[np.ndarray, Array("i", "frames 2", minimum=0)]` takes integers from 0 on, with two
    columns, and as many rows as other fields with the axis `frames`.

    Attributes:
        kinds: The letters of the NumPy kinds that are allowed, e.g. `iu` for integers.
        shape: A word for each axis, separated by spaces. Axes with the same word have the same
            length. A word of digits is the length itself. A field whose name is the word must have
            this length too: it is a list with as many items, or the number.
        minimum: The smallest value that is allowed. NaN and infinity never are.
        maximum: The largest value that is allowed.
        rises: Whether no row may have a smaller value than the row before.
    """

    kinds: str
    shape: str
    minimum: float = -np.inf
    maximum: float = np.inf
    rises: bool = False

    def __get_pydantic_core_schema__(
        self, annotated_type: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Return pydantic's schema of the annotated type, followed by `check`."""

        def checked_value(value: Any, info: ValidationInfo) -> Any:
            """Check the value and return it; the context is the `lengths` of `conforming`."""
            self.check(value, cast(dict[str, int], info.context))
            return value

        return with_info_after_validator_function(checked_value, handler(annotated_type))

    def check(self, value: Any, lengths: dict[str, int]) -> None:
        """Raise ValueError if `value` does not meet the requirements; add its axes to `lengths`.

        Args:
            value: An array, a tensor or nested lists.
            lengths: The length of each named axis in the fields that were checked before. Axes that
                come here for the first time are added.
        """
        axes = self.shape.split()
        try:
            array = np.asarray(value)
        except (TypeError, RuntimeError) as error:
            # NumPy takes no tensor that is sparse, nested or on the device `meta`.
            raise ValueError(f"holds no plain numbers ({type(error).__name__})") from error
        if array.dtype.kind not in self.kinds or array.ndim != len(axes):
            raise ValueError(f"is {array.dtype} {list(array.shape)}, expected [{self.shape}]")
        for axis, length in zip(axes, array.shape, strict=True):
            _require_same_length(lengths, axis, length)
        # Every value is checked only if the smallest or the largest one is wrong. If one value is
        # NaN, these two are NaN.
        if array.size and not self._within(np.array([array.min(), array.max()])).all():
            bad_rows = np.flatnonzero(~self._within(array).reshape(len(array), -1).all(axis=1))
            raise ValueError(
                f"{len(bad_rows)} of [{self.shape}] hold NaN, infinity or what is not "
                f"{self.minimum} to {self.maximum}, the first is number {bad_rows[0]}"
            )
        if self.rises and (array[1:] < array[:-1]).any():
            raise ValueError("the values do not rise from row to row")

    def _within(self, values: np.ndarray) -> np.ndarray:
        """Return which values are finite and from `minimum` to `maximum`."""
        return np.isfinite(values) & (values >= self.minimum) & (values <= self.maximum)


def _require_same_length(lengths: dict[str, int], axis: str, length: int) -> None:
    """Raise ValueError if the axis has another length elsewhere; note the length if it is new."""
    # An axis is a word such as `frames`, or a fixed length such as `2`.
    expected = lengths.setdefault(axis, int(axis) if axis.isdecimal() else length)
    if expected != length:
        raise ValueError(f"{length} {axis}, but {expected} elsewhere in the file")
