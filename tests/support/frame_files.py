"""Write extracted frames as they are released: JPEGs in a folder or a tar. No test is here."""

import tarfile
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np


def write_frames(folder: Path, frames: Iterable[np.ndarray]) -> Path:
    """Write `frame_0000000001.jpg` and so on into a folder, of RGB frames, and return it."""
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames, start=1):
        cv2.imwrite(str(frame_file(folder, number - 1)), frame[..., ::-1])
    return folder


def frame_file(folder: Path, frame: int) -> Path:
    """The file of a frame, from 0 on."""
    return folder / f"frame_{frame + 1:010d}.jpg"


def pack(folder: Path, order: int = 1) -> Path:
    """Put a folder of frames into the tar of its name, by their names (-1: in reverse)."""
    path = folder.with_suffix(".tar")
    with tarfile.open(path, "w") as tar:
        for file in sorted(folder.iterdir())[::order]:
            tar.add(file, f"./{folder.name}/{file.name}")
    return path
