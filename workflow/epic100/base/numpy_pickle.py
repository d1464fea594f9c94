"""Arrays and numbers of NumPy in a pickle of others: of numbers and text, or lists of objects.

NumPy's own classes take from a pickle what no file may say: a data type whose state turns bytes of
the file into pointers. So these classes stand in their place (numpy/_core/src/multiarray/
descriptor.c, `arraydescr_setstate`, and methods.c, `array_setstate`, have the form of the states).
"""

import codecs
from typing import Any

import numpy as np
import torch

from epic100.base.torch_file import TensorFileError

# The kinds of data types: booleans, integers, numbers, text and bytes.
PLAIN_KINDS = "biufUS"


class PlainType:
    """The data type of an array. Its state says the order of bytes alone.

    Attributes:
        dtype: The type; that of objects means that the array is a list of them (`PlainArray`).
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


class PlainArray:
    """An array as its pickle describes it."""

    def __init__(self, *empty: Any) -> None:
        """Begin an array, whose state follows.

        Args:
            *empty: The class, shape and type of an empty array, which are not used.
        """
        self._array = np.zeros(0)
        self._objects: list | None = None

    def __setstate__(self, state: Any) -> None:
        """Take the version, the shape, the type, whether columns come first, and the bytes."""
        _, shape, plain_type, columns_first, data = state
        if plain_type.dtype.kind == "O":
            # PySlowFast has texts as objects. The list is checked value by value, as any other.
            if not isinstance(data, list) or len(shape) != 1:
                raise TensorFileError("holds an array of objects; expected one list of texts")
            self._objects = data
            return
        values = np.frombuffer(data, plain_type.dtype)
        self._array = values.reshape(shape, order="F" if columns_first else "C")

    def content(self) -> Any:
        """Return a tensor of the numbers, or nested lists of the text; of no axis, one value."""
        if self._objects is not None:
            return self._objects
        if self._array.dtype.kind in "US" or self._array.ndim == 0:
            return self._array.tolist()
        return torch.from_numpy(self._array.astype(self._array.dtype.newbyteorder("=")))


def _from_buffer(data: Any, plain_type: PlainType, shape: Any, order: str) -> PlainArray:
    """Make an array from bytes, as pickles of protocol 5 do."""
    array = PlainArray()
    array.__setstate__((1, shape, plain_type, order == "F", data))
    return array


def _number(plain_type: PlainType, data: bytes) -> PlainArray:
    """Make a single number or text from its bytes."""
    return _from_buffer(data, plain_type, (), "C")


# This table has the stand-in of each name. NumPy 1 has another name for some modules.
NUMPY: dict[str, Any] = {
    "_codecs.encode": codecs.encode,
    "numpy.ndarray": PlainArray,
    "numpy.dtype": PlainType,
    **{
        f"{core}.{name}": stand_in
        for core in ("numpy.core", "numpy._core")
        for name, stand_in in {
            "multiarray._reconstruct": PlainArray,
            "multiarray.scalar": _number,
            "numeric._frombuffer": _from_buffer,
        }.items()
    },
}
