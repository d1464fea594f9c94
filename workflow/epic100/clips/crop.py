"""Which part of a picture a clip shows. It is drawn before the pictures are decoded.

The draws are those of MMAction2's `RandomCrop`, `RandomResizedCrop`, `CenterCrop` and `Flip`, from
NumPy's random numbers alone. The window is then rounded to even pixels of the file, because a
chroma sample covers two; it lies at most one pixel beside the one that was drawn.
"""

from dataclasses import dataclass, replace

import numpy as np

from epic100.base.errors import EpicError
from epic100.video.window import Window

CROPS = ("centre", "random", "resized")
# MMAction2 and torchvision draw the ratio of a resized crop from the same range.
ASPECT_RATIOS = (3 / 4, 4 / 3)
ATTEMPTS = 10


@dataclass(frozen=True)
class Crop:
    """A square crop of all pictures of a clip, or the whole pictures.

    Args:
        kind: "centre"; "random": anywhere; "resized": a random share of the picture's area with a
            random aspect ratio, scaled to a square (Szegedy et al., Going deeper with
            convolutions); None: the whole picture.
        size: Side of the square, in pixels; None for the whole picture.
        short_side: What the picture's shorter side is scaled to; from a closed interval, one is
            drawn. None: not scaled. "resized" does not use it.
        area: The smallest and the largest share of the picture, for "resized".
        flip_ratio: Probability that left and right are exchanged.

    Raises:
        EpicError: `kind` is unknown, or only one of `kind` and `size` is given.
    """

    kind: str | None = None
    size: int | None = None
    short_side: int | tuple[int, int] | None = None
    area: tuple[float, float] = (0.5, 1.0)
    flip_ratio: float = 0.0

    def __post_init__(self) -> None:
        if (self.kind is None) != (self.size is None):
            raise EpicError(
                f"DecodeSegment: crop is {self.kind!r} and size {self.size!r}; expected both or "
                "neither"
            )
        if self.kind not in (None, *CROPS):
            raise EpicError(
                f"DecodeSegment: crop is {self.kind!r}; expected one of {', '.join(CROPS)}"
            )

    def draw(self, picture: tuple[int, int]) -> tuple[tuple[int, int] | None, Window | None]:
        """Draw what one clip shows.

        Args:
            picture: (height, width) of the file's pictures.

        Returns:
            (height, width) that the clip's pictures are scaled to, and the part of the file's
            pictures that they show; None: not scaled, and all of it.

        Raises:
            EpicError: The scaled picture is smaller than the crop.
        """
        if self.size is None:
            size, window = _draw_size(picture, self.short_side), Window(0, 0, *picture)
        else:
            size, is_resized = (self.size, self.size), self.kind == "resized"
            window = (
                _resized(picture, self.area) if is_resized else self._square(picture, self.size)
            )
        flip = self.flip_ratio > 0 and np.random.rand() < self.flip_ratio
        return size, replace(window, flipped=flip) if self.kind or self.flip_ratio else None

    def _square(self, picture: tuple[int, int], size: int) -> Window:
        scaled = _draw_size(picture, self.short_side) or picture
        if size > min(scaled):
            raise EpicError(
                f"DecodeSegment: size is {size}, but a picture is scaled to "
                f"{scaled[1]}x{scaled[0]}; expected a short_side of at least {size}"
            )
        free = [side - size for side in scaled]
        if self.kind == "centre":
            top, left = (room // 2 for room in free)
        else:
            # MMAction2's RandomCrop draws in this order too, and never the last place.
            top, left = (int(np.random.randint(room)) if room else 0 for room in free)
        rows, columns = (
            _in_file(start, size, scaled_side, file_side)
            for start, scaled_side, file_side in zip((top, left), scaled, picture, strict=True)
        )
        return Window(rows[0], columns[0], rows[1], columns[1])


def _draw_size(
    picture: tuple[int, int], short_side: int | tuple[int, int] | None
) -> tuple[int, int] | None:
    """(height, width) that a clip's pictures are scaled to, or None if they are not scaled.

    Args:
        picture: (height, width) of the file's pictures.
        short_side: Pixels of the shorter side, or the closed interval that they are drawn from, as
            MMAction2's `RandomRescale` does.
    """
    if short_side is None:
        return None
    if not isinstance(short_side, int):
        short_side = int(np.random.randint(short_side[0], short_side[1] + 1))
    factor = short_side / min(picture)
    # `mmcv.rescale_size` rounds in the same way.
    height, width = (int(side * factor + 0.5) for side in picture)
    return height, width


def _in_file(start: int, length: int, made: int, whole: int) -> tuple[int, int]:
    """First pixel and length in the file of a stretch of a side that is scaled to `made`."""
    if length == made:
        return 0, whole
    scale = whole / made
    kept = min(2 * round(length * scale / 2), whole // 2 * 2)
    return min(2 * round(start * scale / 2), (whole - kept) // 2 * 2), kept


def _resized(picture: tuple[int, int], area: tuple[float, float]) -> Window:
    height, width = picture
    low, high = np.log(ASPECT_RATIOS)
    ratios = np.exp(np.random.uniform(low, high, ATTEMPTS))
    areas = np.random.uniform(*area, ATTEMPTS) * height * width
    for ratio, pixels in zip(ratios, areas, strict=True):
        across = 2 * round(np.sqrt(pixels * ratio) / 2)
        down = 2 * round(np.sqrt(pixels / ratio) / 2)
        if across <= width and down <= height:
            left = 2 * np.random.randint((width - across) // 2 + 1)
            top = 2 * np.random.randint((height - down) // 2 + 1)
            return Window(int(top), int(left), int(down), int(across))
    side = min(picture)
    return Window((height - side) // 4 * 2, (width - side) // 4 * 2, side, side)
