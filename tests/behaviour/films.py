"""Short films of every kind that PyAV's encoders make, and when their pictures are shown.

No test in here, and nothing of the library.
"""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from support.packets import write_film

# It is width and height in pixels.
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


def pictures(count: int, seed: int, size: tuple[int, int] = SIZE) -> Iterable[np.ndarray]:
    """Grainy blocks that drift: uint8 [height, width, 3] a picture, no two alike."""
    rng, (width, height) = np.random.default_rng(seed), size
    blocks = rng.integers(0, 200, (height // 8, width, 3), np.uint8)
    wide = blocks.repeat(8, axis=0).repeat(8, axis=1)
    for number in range(count):
        grain = rng.integers(0, 12, (height, width, 1), np.uint8)
        at = 2 * number % (wide.shape[1] - width)
        yield wide[:, at : at + width] + grain


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
    """Encode `count` pictures, shown at `times` in steps of the rate; `x264`: its own settings."""
    fps = RATES[rate]
    path.parent.mkdir(parents=True, exist_ok=True)
    if codec == "libx264":
        settings = X264 | {name.replace("_", "-"): value for name, value in x264.items()}
        coder = {"x264-params": ":".join(f"{k}={v}" for k, v in settings.items())}
    options = {"container": container, "muxer": muxer, "coder": coder}
    drawn, times = pictures(count, seed), times or range(count)
    return write_film(path, drawn, SIZE, fps, times, 1 / fps, codec, **options)


def times_of(path: Path) -> list[int]:
    """When the pictures of a file are shown, in order, in units of its time base."""
    with av.open(str(path)) as container:
        return sorted({p.pts for p in container.demux(video=0) if p.size and not p.is_discard})
