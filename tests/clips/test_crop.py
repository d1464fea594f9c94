"""Crops drawn before decoding: MMAction2's draws, and its pictures to within a pixel."""

import numpy as np
import pytest
from mmaction.registry import TRANSFORMS

import epic100.mmaction  # noqa: F401
from epic100.base.errors import EpicError
from epic100.clips.crop import Crop
from epic100.clips.transforms import DecodeSegment
from support.decoders import DECODERS

SEGMENT = {"start_index": 0, "total_frames": 50, "modality": "RGB", "narration_id": "P02_101_7"}


@pytest.fixture
def opened(lab):

    def read(steps, seed=0, decoder="pyav"):
        """The clip that the steps give, and a random number drawn after it."""
        path = lab.videos["P02_101"].path(lab.root)
        sample = {"filename": str(path), "frame_inds": np.array([3, 9, 15]), **SEGMENT}
        np.random.seed(seed)
        for step in ({"type": "OpenSegment", "decoder": decoder}, *steps):
            sample = TRANSFORMS.build(step).transform(sample)
        return np.stack(sample["imgs"]), np.random.rand()

    return read


def separate(size, crop):
    return [{"type": "DecodeSegment", "short_side": (48, 60)}, {"type": crop, **size},
            {"type": "Flip", "flip_ratio": 0.5}]  # fmt: skip


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("kind, other", [
    ("random", separate({"size": 40}, "RandomCrop")),
    ("centre", separate({"crop_size": 40}, "CenterCrop")),
])  # fmt: skip
def test_a_crop_shows_what_mmaction2_s_steps_show_with_the_same_random_numbers(
    opened, kind, other, decoder
):
    step = {"type": "DecodeSegment", "short_side": (48, 60), "crop": kind, "size": 40}
    for seed in range(8):
        ours, after = opened([step | {"flip_ratio": 0.5}], seed, decoder)
        theirs, after_theirs = opened(other, seed, decoder)
        assert ours.shape == theirs.shape == (3, 40, 40, 3) and after == after_theirs
        assert np.abs(ours.astype(int) - theirs).mean() < 6  # of 255; another place: 20 and more
        elsewhere, _ = opened(other, seed + 100, decoder)
        if kind == "random":
            there = np.abs(ours.astype(int) - elsewhere).mean()
            assert there > np.abs(ours.astype(int) - theirs).mean()


def test_a_window_is_at_most_a_pixel_of_the_file_beside_the_drawn_one():
    picture, size = (256, 455), 160
    for seed in range(300):
        np.random.seed(seed)
        window = Crop("random", size, (182, 228)).draw(picture)
        np.random.seed(seed)
        side = np.random.randint(182, 229)
        scaled = (side, int(455 * side / 256 + 0.5))
        drawn = [np.random.randint(made - size) for made in scaled]
        for first, length, start, made, whole in (
            (window.top, window.height, drawn[0], scaled[0], 256),
            (window.left, window.width, drawn[1], scaled[1], 455),
        ):
            assert first % 2 == length % 2 == 0 and 0 <= first <= first + length <= whole
            assert abs(first - start * whole / made) <= 1.001
            assert abs(length - size * whole / made) <= 1.001


@pytest.mark.parametrize("picture", [(256, 455), (57, 101), (1080, 1920)])
def test_resized_crops_have_the_area_and_shape_of_the_recipe(picture):
    windows = []
    for seed in range(400):
        np.random.seed(seed)
        windows.append(Crop("resized", 160, area=(0.5, 1.0), flip_ratio=0.5).draw(picture))
    height, width = picture
    for w in windows:
        assert w.top >= 0 and w.top + w.height <= height
        assert w.left >= 0 and w.left + w.width <= width
    square = {w for w in windows if w.width == w.height == height}  # no draw was inside
    drawn = [w for w in windows if w not in square]
    assert len(drawn) > len(square)
    areas = np.array([w.height * w.width / (height * width) for w in drawn])
    ratios = np.array([w.width / w.height for w in drawn])
    slack = 4 / height
    assert areas.min() > 0.5 - slack and areas.max() > 0.6
    assert ratios.min() > 0.75 - slack and ratios.max() < 4 / 3 + slack
    flipped = np.mean([w.flipped for w in windows])
    assert 0.4 < flipped < 0.6
    assert len({(w.top, w.left) for w in drawn}) > 20


def test_a_resized_crop_gives_squares_of_its_size(opened):
    step = {"type": "DecodeSegment", "crop": "resized", "size": 32}
    (clip, _), (again, _) = opened([step]), opened([step])
    assert clip.shape == (3, 32, 32, 3) and np.array_equal(clip, again)


@pytest.mark.parametrize("wrong, words", [
    ({"crop": "middle", "size": 32}, "crop is 'middle'; expected one of centre, random, resized"),
    ({"crop": "random"}, "crop is 'random' and size None; expected both or neither"),
    ({"size": 32}, "crop is None and size 32; expected both or neither"),
])  # fmt: skip
def test_arguments_that_do_not_fit_are_errors(wrong, words):
    with pytest.raises(EpicError, match=words):
        DecodeSegment(**wrong)


def test_a_crop_that_is_larger_than_the_picture_is_an_error():
    with pytest.raises(EpicError, match="size is 64, but a picture is scaled to 85x48; expected"):
        Crop("random", 64, 48).draw((256, 455))
