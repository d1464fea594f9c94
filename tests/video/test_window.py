"""A window of a frame is what scaling the complete frame gives there, but for its border."""

import itertools
from dataclasses import replace

import av
import cv2
import numpy as np
import pytest

from epic100.video.reader import SharedCaches, VideoReader
from epic100.video.window import FrameConverter, Window
from support.scanned import index_of

# Each pixel of this frame, [360, 640, 3], has its own colours.
NOISE = np.random.default_rng(0).integers(0, 256, (360, 640, 3), dtype=np.uint8)


def scaled(frame, size, window=None) -> np.ndarray:
    """Scale a frame, or its window, to (height, width)."""
    into = np.empty((*size, 3), np.uint8)
    FrameConverter().write(frame, into, window)
    return into


def difference(part, whole, top, left) -> np.ndarray:
    """The largest difference of three colours between a part and its place in the complete frame.

    Args:
        part: The part, uint8 [height, width, 3].
        whole: The complete frame, uint8.
        top: The line of `whole` at which the part begins.
        left: Its column.

    Returns:
        int [height, width].
    """
    height, width = part.shape[:2]
    place = whole[top : top + height, left : left + width]
    return np.abs(part.astype(int) - place).max(axis=2)


# A window without the border in which swscale's filter would see pixels outside the window: the
# filter reaches one pixel of luma, and chroma has half as many columns.
INSIDE = (slice(2, -2), slice(2, -2))


@pytest.mark.parametrize(
    ("numerator", "denominator", "tolerance"),
    [
        (1, 2, 0),
        (2, 5, 0),
        (4, 5, 0),
        # Positions are rounded to 1/65536 of a pixel, which shows in the last bits at these scales.
        (3, 4, 4),
        (5, 4, 4),
    ],
)
@pytest.mark.parametrize("pixels", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv420p10le"])
def test_a_scaled_window_differs_at_its_border(pixels, numerator, denominator, tolerance):
    def scale(*lengths):
        return [length * numerator // denominator for length in lengths]

    frame = av.VideoFrame.from_ndarray(NOISE, format="rgb24").reformat(format=pixels)
    whole = scaled(frame, scale(360, 640))
    window = Window(top=40, left=80, height=160, width=240)
    part = scaled(frame, scale(160, 240), window)
    differences = difference(part, whole, *scale(40, 80))
    assert differences[INSIDE].max() <= tolerance
    # In noise, neighbours differ, so the border shows that the filter sees none outside the window.
    assert differences.max() > tolerance


@pytest.mark.parametrize("pixels", ["nv12", "gray", "rgb24", "yuv411p"])
def test_windows_of_other_pixel_formats_show_their_place(pixels):
    smooth = cv2.resize(NOISE[:6, :8], (640, 360), interpolation=cv2.INTER_CUBIC)
    frame = av.VideoFrame.from_ndarray(smooth, format="rgb24").reformat(format=pixels)
    whole = scaled(frame, (180, 320))
    part = scaled(frame, (80, 120), Window(top=40, left=82, height=160, width=240))
    # Values go up to 255. The same window looks different in another place.
    assert difference(part, whole, 20, 41)[INSIDE].max() <= 10
    assert difference(part, whole, 60, 101).mean() > 20


@pytest.mark.parametrize(
    "name",
    ["b_frames", "cavlc", "odd_size", "444", "10_bit", "lossless", "quicktime", "interlaced"],
)
def test_a_reader_s_windows_have_full_frames_pixels(name, undamaged):
    reader = VideoReader(undamaged[name], index_of(undamaged[name]), SharedCaches())
    frames = [1, reader.frames - 2, reader.frames // 2]
    whole = reader.get_frames(frames)
    height, width = reader.size
    # All windows have one size, so the reader keeps one converter for them.
    for top, left in itertools.product((4, 2), (6, 0)):
        window = Window(top, left, (height - 6) // 2 * 2, (width - 10) // 2 * 2)
        parts = reader.get_frames(frames, window=window)
        assert parts.shape[1:3] == (window.height, window.width)
        for part, frame in zip(parts, whole, strict=True):
            assert difference(part, frame, top, left)[INSIDE].max() == 0
        flipped = reader.get_frames(frames, window=replace(window, flipped=True))
        assert np.array_equal(flipped, parts[:, :, ::-1])
