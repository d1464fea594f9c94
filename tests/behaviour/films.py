"""Make short films with the encoders of PyAV, and list when their frames are shown.

No test is here, and nothing of the library.
"""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from support.packets import write_film

# This is the width and height of all films in pixels.
SIZE = (96, 64)
RATES = {"59.94": Fraction(60000, 1001), "50": Fraction(50)}
# One thread and plain C give the same bytes each time, and a fixed quantizer needs no estimates.
X264 = {
    "qp": 24,
    "keyint": 25,
    "bframes": 3,
    "ref": 3,
    "threads": 1,
    **dict.fromkeys(("b-adapt", "scenecut", "asm", "mbtree", "rc-lookahead"), 0),
}


def draw_frames(count: int, seed: int, size: tuple[int, int] = SIZE) -> Iterable[np.ndarray]:
    """Draw frames of grainy blocks that drift, uint8 [height, width, 3], no two alike."""
    rng = np.random.default_rng(seed)
    width, height = size
    blocks = rng.integers(0, 200, (height // 8, width, 3), np.uint8)
    wide = blocks.repeat(8, axis=0).repeat(8, axis=1)
    for number in range(count):
        grain = rng.integers(0, 12, (height, width, 1), np.uint8)
        left = 2 * number % (wide.shape[1] - width)
        yield wide[:, left : left + width] + grain


def film(
    path: Path,
    count: int = 120,
    rate: str = "59.94",
    codec: str = "libx264",
    container: str = "mp4",
    seed: int = 0,
    times: list[int] | None = None,
    muxer: dict[str, str] | None = None,
    coder: dict[str, str] | None = None,
    **x264: int | str,
) -> Path:
    """Encode a film of `count` frames.

    Args:
        path: The file to write.
        count: Number of frames.
        rate: A key of `RATES`.
        codec: FFmpeg's name of the encoder.
        container: FFmpeg's name of the container.
        seed: Determines the frames.
        times: When each frame is shown, in frames of the rate; None means one after the other.
        muxer: Options of the muxer.
        coder: Options of the encoder, for all but libx264.
        **x264: Settings of libx264 beside those of `X264`.
    """
    fps = RATES[rate]
    path.parent.mkdir(parents=True, exist_ok=True)
    if codec == "libx264":
        settings = X264 | {name.replace("_", "-"): value for name, value in x264.items()}
        coder = {"x264-params": ":".join(f"{k}={v}" for k, v in settings.items())}
    options = {"container": container, "muxer": muxer, "coder": coder}
    drawn = draw_frames(count, seed)
    return write_film(path, drawn, SIZE, fps, times or range(count), 1 / fps, codec, **options)


def times_of(path: Path) -> list[int]:
    """List when the frames of a file are shown, in order, in units of its time base."""
    with av.open(str(path)) as container:
        return sorted({p.pts for p in container.demux(video=0) if p.size and not p.is_discard})
