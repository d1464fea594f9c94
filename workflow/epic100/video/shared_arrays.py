"""Arrays that the processes of a node share: written once to a file that all of them map."""

import fcntl
import json
import mmap
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from epic100.base.atomic import atomic_path

FOLDER = "EPIC100_SHARED_INDEXES"  # a private folder of the processes that a launcher starts
ALIGNED = 64  # bytes


def share_arrays(arrays: Mapping[str, np.ndarray], name: str) -> Mapping[str, np.ndarray]:
    """The same arrays out of a file that the first process writes and the others map.

    Args:
        arrays: They are read only by the process that writes the file.
        name: Of the file, in the folder that `FOLDER` names. It must tell these arrays from others.

    Returns:
        Mapped arrays, or `arrays` if there is no such folder, or no room in it.
    """
    folder = os.environ.get(FOLDER)
    if not folder:
        return arrays
    file = Path(folder) / name
    try:
        with open(f"{file}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not file.exists():
                _write(arrays, file)
        return _mapped(file)
    except OSError:
        return arrays


def _write(arrays: Mapping[str, np.ndarray], file: Path) -> None:
    places = {}
    with atomic_path(file) as temporary, temporary.open("wb") as out:
        for name, values in arrays.items():
            out.write(bytes(-out.tell() % ALIGNED))
            places[name] = values.dtype.str, values.shape, out.tell()
            out.write(values.tobytes())
        out.write(bytes(1))  # an empty array may not begin at the end
        text = json.dumps(places).encode()
        out.write(text + len(text).to_bytes(8, "little"))


def _mapped(file: Path) -> dict[str, np.ndarray]:
    with file.open("rb") as opened:
        data = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    length = int.from_bytes(data[-8:], "little")
    places = json.loads(data[-8 - length : -8])
    return {
        name: np.ndarray(shape, kind, data, start) for name, (kind, shape, start) in places.items()
    }
