"""Draw the crop of a clip at random: the window of each frame that is decoded and shown.

With the same state of NumPy's random generator, MMAction2's `RandomCrop`, `RandomResizedCrop`,
`CenterCrop` and `Flip` draw the same crop. The window is then rounded to even pixels of the file,
because a chroma sample covers two; so it is shifted by one pixel at most.
"""

from dataclasses import dataclass, replace

import numpy as np

from epic100.base.errors import EpicError
from epic100.video.window import Window

CROPS = ("centre", "random", "resized")
# MMAction2 and torchvision draw the ratio of a resized crop from the same range.
ASPECT_RATIOS = (3 / 4, 4 / 3)
# A resized crop is drawn anew until it fits into the frame, at most this number of times.
ATTEMPTS = 10


@dataclass(frozen=True)
class Crop:
    """The rule by which clips are cropped: one square for all frames of a clip, or no crop.

    Args:
        crop_type: "centre"; "random": anywhere; "resized": a random fraction of the frame's area
            with a random aspect ratio, scaled to a square (Szegedy et al., Going deeper with
            convolutions); None: the complete frame.
        size: Side of the square, in pixels; None for the complete frame.
        short_side: Length of the frame's shorter side after scaling, in pixels, or a closed
            interval from which it is drawn. None: not scaled. "resized" does not use it.
        area: The smallest and the largest fraction of the frame's area, for "resized".
        flip_ratio: Probability that left and right are exchanged.

    Raises:
        EpicError: `crop_type` is unknown, or only one of `crop_type` and `size` is given.
    """

    crop_type: str | None = None
    size: int | None = None
    short_side: int | tuple[int, int] | None = None
    area: tuple[float, float] = (0.5, 1.0)
    flip_ratio: float = 0.0

    def __post_init__(self) -> None:
        """Check the arguments."""
        if (self.crop_type is None) != (self.size is None):
            raise EpicError(
                f"DecodeSegment: crop is {self.crop_type!r} and size {self.size!r}; expected both "
                "or neither"
            )
        if self.crop_type not in (None, *CROPS):
            raise EpicError(
                f"DecodeSegment: crop is {self.crop_type!r}; expected one of {', '.join(CROPS)}"
            )

    def draw(self, frame_size: tuple[int, int]) -> tuple[tuple[int, int] | None, Window | None]:
        """Draw the size and the window of one clip's frames at random, as the crop allows.

        Args:
            frame_size: (height, width) of the file's frames.

        Returns:
            (height, width) of the clip's frames, or None if they are not scaled; and the window of
            the file's frames that they show, or None if they show all of it.

        Raises:
            EpicError: The scaled frame is smaller than the crop.
        """
        if self.size is None:
            size, window = _draw_size(frame_size, self.short_side), Window(0, 0, *frame_size)
        elif self.crop_type == "resized":
            size, window = (self.size, self.size), _draw_resized_window(frame_size, self.area)
        else:
            size, window = (self.size, self.size), self._draw_square_window(frame_size, self.size)
        # MMAction2 draws the flip after the crop, and draws no number if it never flips.
        is_flipped = self.flip_ratio > 0 and np.random.rand() < self.flip_ratio
        shows_all = self.crop_type is None and self.flip_ratio == 0
        return size, (None if shows_all else replace(window, flipped=is_flipped))

    def _draw_square_window(self, frame_size: tuple[int, int], size: int) -> Window:
        """Draw a square of the scaled frame, in its centre or anywhere.

        Args:
            frame_size: (height, width) of the file's frames.
            size: Side of the square in the scaled frame.

        Returns:
            The square as a window in pixels of the file's frames, as they are before scaling.
        """
        scaled_height, scaled_width = _draw_size(frame_size, self.short_side) or frame_size
        height, width = frame_size
        if size > min(scaled_height, scaled_width):
            raise EpicError(
                f"DecodeSegment: size is {size}, but a frame is scaled to "
                f"{scaled_width}x{scaled_height}; expected a short_side of at least {size}"
            )
        room_down, room_across = scaled_height - size, scaled_width - size
        if self.crop_type == "centre":
            top, left = room_down // 2, room_across // 2
        else:
            # This repeats MMAction2's RandomCrop, to draw the same crops: it draws `top` first, and
            # never takes the last place, since `randint` excludes its limit.
            top = int(np.random.randint(room_down)) if room_down else 0
            left = int(np.random.randint(room_across)) if room_across else 0
        file_top, file_height = _in_file(top, size, scaled_height, height)
        file_left, file_width = _in_file(left, size, scaled_width, width)
        return Window(file_top, file_left, file_height, file_width)


def _draw_size(
    frame_size: tuple[int, int], short_side: int | tuple[int, int] | None
) -> tuple[int, int] | None:
    """Draw the (height, width) to which a clip's frames are scaled; None for no scaling.

    Args:
        frame_size: (height, width) of the file's frames.
        short_side: Pixels of the shorter side, or a closed interval from which they are drawn, as
            in MMAction2's `RandomRescale`.
    """
    if short_side is None:
        return None
    if not isinstance(short_side, int):
        smallest, largest = short_side
        short_side = int(np.random.randint(smallest, largest + 1))
    factor = short_side / min(frame_size)
    # `mmcv.rescale_size` rounds in the same way.
    height, width = (int(side * factor + 0.5) for side in frame_size)
    return height, width


def _in_file(start: int, length: int, scaled_side: int, file_side: int) -> tuple[int, int]:
    """Convert one side of a window of the scaled frame to pixels of the file.

    Args:
        start: First row or column of the window in the scaled frame.
        length: Number of rows or columns of the window in the scaled frame.
        scaled_side: Height or width of the scaled frame.
        file_side: Height or width of the file's frames.

    Returns:
        First row or column, and their number, in the file. Both are even, because a chroma sample
        covers two pixels.
    """
    if length == scaled_side:
        return 0, file_side
    scale = file_side / scaled_side
    file_length = min(2 * round(length * scale / 2), file_side // 2 * 2)
    return min(2 * round(start * scale / 2), (file_side - file_length) // 2 * 2), file_length


def _draw_resized_window(frame_size: tuple[int, int], area: tuple[float, float]) -> Window:
    """Draw a window of random area and aspect ratio, as MMAction2's `RandomResizedCrop` does.

    Args:
        frame_size: (height, width) of the file's frames.
        area: The smallest and the largest fraction of the frame's area.
    """
    height, width = frame_size
    # Logarithms make a ratio as likely as its inverse.
    low, high = np.log(ASPECT_RATIOS)
    ratios = np.exp(np.random.uniform(low, high, ATTEMPTS))
    areas = np.random.uniform(*area, ATTEMPTS) * height * width
    for ratio, pixels in zip(ratios, areas, strict=True):
        # Halving, rounding and doubling give even numbers of pixels.
        window_width = 2 * round(np.sqrt(pixels * ratio) / 2)
        window_height = 2 * round(np.sqrt(pixels / ratio) / 2)
        if window_width <= width and window_height <= height:
            left = 2 * np.random.randint((width - window_width) // 2 + 1)
            top = 2 * np.random.randint((height - window_height) // 2 + 1)
            return Window(int(top), int(left), int(window_height), int(window_width))
    # No drawn window fits, so the largest square in the centre is taken. It starts at even pixels.
    side = min(frame_size)
    return Window((height - side) // 4 * 2, (width - side) // 4 * 2, side, side)
