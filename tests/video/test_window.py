"""A window of a picture is what scaling the whole picture gives there, but for its border."""

import itertools
from dataclasses import replace

import av
import cv2
import numpy as np
import pytest

from epic100.video.kept import Kept
from epic100.video.reader import VideoReader
from epic100.video.window import PictureConverter, Window

PIXELS = np.random.default_rng(0).integers(0, 256, (360, 640, 3), dtype=np.uint8)


def converted(picture, size, window=None):
    made = np.empty((*size, 3), np.uint8)
    PictureConverter().write(picture, made, window)
    return made


def apart(part, whole, top, left):
    """Largest difference from the same place of the whole picture, [height, width]."""
    height, width = part.shape[:2]
    there = whole[top : top + height, left : left + width]
    return np.abs(part.astype(int) - there).max(2)


# The filter reaches one pixel of luma at these scales, and chroma has half as many columns.
@pytest.mark.parametrize(
    ("scale", "levels"), [((1, 2), 0), ((2, 5), 0), ((4, 5), 0), ((3, 4), 4), ((5, 4), 4)]
)
@pytest.mark.parametrize("pixels", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv420p10le"])
def test_noise_differs_only_where_the_filter_would_see_what_is_cut_away(pixels, scale, levels):
    picture = av.VideoFrame.from_ndarray(PIXELS, format="rgb24").reformat(format=pixels)
    times, by = scale
    whole = converted(picture, (360 * times // by, 640 * times // by))
    window = Window(40, 80, 160, 240)
    part = converted(picture, (160 * times // by, 240 * times // by), window)
    differences = apart(part, whole, 40 * times // by, 80 * times // by)
    # Positions are rounded to 1/65536 of a pixel, which some scales show in the last bits.
    assert differences[2:-2, 2:-2].max() <= levels
    # Noise shows where the filter sees other neighbours.
    assert (differences > 0).any()


@pytest.mark.parametrize("pixels", ["nv12", "gray", "rgb24", "yuv411p"])
def test_windows_of_other_formats_show_their_own_place(pixels):
    smooth = cv2.resize(PIXELS[:6, :8], (640, 360), interpolation=cv2.INTER_CUBIC)
    picture = av.VideoFrame.from_ndarray(smooth, format="rgb24").reformat(format=pixels)
    whole = converted(picture, (180, 320))
    part = converted(picture, (80, 120), Window(40, 82, 160, 240))
    # Values go up to 255.
    assert apart(part, whole, 20, 41)[2:-2, 2:-2].max() <= 10
    # Another place looks different.
    assert apart(part, whole, 60, 101).mean() > 20


def test_windows_of_every_kind_of_file_through_kept_converters_are_its_own_pixels(sound):
    kept = Kept()
    names = "b_frames cavlc odd_size 444 10_bit lossless quicktime interlaced"
    for name in names.split():
        reader = VideoReader(sound[name], kept=kept)
        frames = [1, reader.frames - 2, reader.frames // 2]
        whole = reader.get_frames(frames)
        height, width = reader.size
        for top, left in itertools.product((4, 2), (6, 0)):
            window = Window(top, left, (height - 6) // 2 * 2, (width - 10) // 2 * 2)
            part = reader.get_frames(frames, window=window)
            assert part.shape[1:3] == (window.height, window.width)
            for ours, theirs in zip(part, whole, strict=True):
                assert apart(ours, theirs, top, left)[2:-2, 2:-2].max() == 0, name
            turned = replace(window, flipped=True)
            assert np.array_equal(reader.get_frames(frames, window=turned), part[:, :, ::-1])
        reader.close()
