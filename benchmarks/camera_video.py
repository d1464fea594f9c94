"""A long video as a head-mounted camera films it, for benchmarks: all of the picture moves."""

import argparse
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from support.packets import CodedPicture, rewrite

RATE = Fraction(60000, 1001)
OPTIONS = {"crf": "19", "preset": "medium", "g": "250"}


def write_camera_video(
    path: Path,
    minutes: float,
    size: tuple[int, int] = (640, 360),
    rate: Fraction = RATE,
    scene: np.ndarray | None = None,
) -> None:
    """Film at most one minute of a wandering, turning, noisy camera; longer files repeat it.

    H.264 by libx264's defaults (a key frame every 250, three B-frames). The camera films `scene`,
    uint8 RGB twice as high and wide as the pictures, or one that is drawn.
    """
    _film(path, min(minutes, 1.0), size, rate, scene)

    def repeat(packets: list[CodedPicture]) -> list[CodedPicture]:
        step = int(np.median(np.diff(sorted(p.pts for p in packets))))
        length = step * len(packets)
        return [
            CodedPicture(p.data, p.pts + i * length, p.dts + i * length, p.is_key)
            for i in range(round(minutes))
            for p in packets
        ]

    if minutes > 1:
        rewrite(path, repeat)


def _film(
    path: Path, minutes: float, size: tuple[int, int], rate: Fraction, scene: np.ndarray | None
) -> None:
    rng = np.random.default_rng(7)
    scene = _scene(rng, 2 * size[0], 2 * size[1]) if scene is None else scene
    frames = round(minutes * 60 * rate)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate, options=OPTIONS)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for i in range(frames):
            t = i / float(rate)
            angle = 4 * np.sin(0.7 * t) + 1.5 * np.sin(3.1 * t)
            move = cv2.getRotationMatrix2D((size[0], size[1]), angle, 1 + 0.1 * np.sin(0.4 * t))
            move[0, 2] -= size[0] / 2 + 60 * np.sin(0.9 * t) + 8 * np.sin(7 * t)
            move[1, 2] -= size[1] / 2 + 40 * np.sin(0.6 * t + 1) + 6 * np.sin(9 * t)
            picture = cv2.warpAffine(scene, move, size, borderMode=cv2.BORDER_REFLECT)
            noise = rng.integers(-3, 4, picture.shape, dtype=np.int16)
            picture = np.clip(picture + noise, 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def _scene(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Smooth shades with hard-edged things on them, uint8 [height, width, 3]."""
    scene = np.zeros((height, width, 3), np.float32)
    for cells in (4, 16, 64):
        coarse = rng.uniform(-1, 1, (cells, cells, 3)).astype(np.float32)
        scene += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) / cells**0.5
    scene = np.clip(128 + 90 * scene, 0, 255).astype(np.uint8)
    for _ in range(80):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        colour = [int(c) for c in rng.integers(0, 255, 3)]
        cv2.circle(scene, centre, int(rng.integers(8, 60)), colour, -1)
    return scene


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--minutes", type=float, default=20)
    options = parser.parse_args()
    write_camera_video(options.path, options.minutes)
