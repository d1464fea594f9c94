"""Reads a file of each kind once for each call that can fail, in a process with the shim.

    LD_PRELOAD=faults_shim.so FAULT_STATE=... FAULT_BELOW=DIR python -m support.failing_reads DIR

Prints a line for each call: the kind of file, and the error's class, or `fine`.
"""

import os
import struct
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from epic100.base import disk
from epic100.base.torch_file import read_tensors, write_tensors
from epic100.features.file import SOURCE, Features, read_features, write_features
from epic100.submission import build, write_zip
from epic100.submission.zips import check_zip
from epic100.video.index_file import load_indexes, write_indexes
from epic100.video.jobs import keep, kept
from support.made_index import index_at


def outcomes(read: Callable[[], object]) -> Iterator[str]:
    """What becomes of `read`, with each of its calls failing once with EIO."""
    at = 0
    while True:
        at += 1
        with open(os.environ["FAULT_STATE"], "r+b") as state:
            state.write(bytes(16))
        os.environ.update(FAULT_AT=str(at), FAULT_ERRNO="5")
        try:
            read()
            said = "fine"
        except Exception as error:
            said = type(error).__name__
        os.environ["FAULT_AT"] = "0"
        with open(os.environ["FAULT_STATE"], "rb") as state:
            if not struct.unpack("2q", state.read(16))[1]:
                return  # there are no more calls
        yield said


def main(folder: Path) -> None:
    """Make the files and read them."""
    tensors, index, job = folder / "iter_8.pth", folder / "P01.index.npz", folder / "P01_01.npz"
    write_tensors({"state_dict": {str(n): torch.ones(3000) for n in range(3)}}, tensors)
    features, entry = folder / "P01_01.features.npz", folder / "submission.zip"
    write_indexes({}, index)
    rows, times = np.arange(9), np.arange(9.0)
    clips = np.stack([rows, rows + 1], axis=1)
    made = dict.fromkeys(SOURCE, 1.0)
    held = Features(np.ones((9, 2), np.float32), rows >= 0, times, rows, clips, 50.0, 9.0, made)
    write_features(held, features)
    scores = torch.zeros(1, 2)
    write_zip(build(["a"], scores, scores), entry, {"pt": 0, "tl": 0, "td": 0})
    keep(job, {"md5": ""}, index_at([0, 1], Fraction(1, 30)))
    kinds = {
        "tensors": (tensors, lambda: read_tensors(tensors, "a checkpoint", "")),
        "index": (index, lambda: load_indexes(index)),
        "features": (features, lambda: read_features(features)),
        "submission": (entry, lambda: check_zip(entry, ["a"], 2, 2)),
        "kept": (job, lambda: kept(job)),
    }
    for kind, (path, read) in kinds.items():
        for said in outcomes(read):
            print(kind, said if path.is_file() else "removed")


if __name__ == "__main__":
    disk.WAITS = ()  # else the second try of each read succeeds
    main(Path(sys.argv[1]))
