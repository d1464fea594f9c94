"""`train: crop:` takes the place of whatever crop the MMEngine config's train pipeline has."""

import pytest

from epic100.base.errors import EpicError
from support import small_runs
from support.checkout import ROOT

DECODE, FORMAT = {"type": "DecodeSegment", "short_side": (40, 50)}, {"type": "FormatShape"}
CROP, FLIP = {"type": "RandomCrop", "size": 32}, {"type": "Flip", "flip_ratio": 0.25}
RESIZED = [
    {"type": "RandomResizedCrop", "area_range": (0.5, 1.0)},
    {"type": "Resize", "scale": (32, 32), "keep_ratio": False},
]
RANDOM = {"type": "DecodeSegment", "crop": "random", "size": 32}


@pytest.fixture
def pipeline(lab, tmp_path):
    def built(crop, steps):
        """The train pipeline with this crop, of a config file with these steps."""
        path = tmp_path / "crop.py"
        path.write_text(
            f"_base_ = [{str(ROOT / small_runs.DEMO)!r}]\n"
            f"train_dataloader = dict(dataset=dict(pipeline={steps!r}))\n"
        )
        config = small_runs.built(lab, config=str(path), crop=crop)
        return [dict(step) for step in config.train_dataloader.dataset.pipeline]

    return built


@pytest.mark.parametrize("steps, flip, sides", [
    ([DECODE, CROP, FORMAT], 0.0, (40, 50)),
    ([DECODE, CROP, FLIP, FORMAT], 0.25, (40, 50)),
    ([{"type": "DecodeSegment", "short_side": 40}, *RESIZED, FLIP, FORMAT], 0.25, (37, 46)),
    ([RANDOM | {"short_side": (40, 50), "flip_ratio": 0.5}, FORMAT], 0.5, (40, 50)),
    ([{**RANDOM, "crop": "resized"}, FORMAT], 0.0, (37, 46)),
])  # fmt: skip
def test_a_crop_is_replaced_and_its_size_range_and_flips_are_kept(pipeline, steps, flip, sides):
    step, after = pipeline("random", steps)
    assert step == {**RANDOM, "flip_ratio": flip, "short_side": sides} and after == FORMAT
    step, after = pipeline("resized", steps)
    expected = {**RANDOM, "crop": "resized", "flip_ratio": flip, "area": (0.5, 1.0)}
    assert step == expected and after == FORMAT


def test_a_pipeline_without_a_crop_that_is_known_is_an_error(pipeline):
    steps = [DECODE, {"type": "MultiScaleCrop", "input_size": 32}, FORMAT]
    with pytest.raises(EpicError, match="train: crop is resized, .* has no crop .*MultiScaleCrop"):
        pipeline("resized", steps)
    with pytest.raises(EpicError, match="set it to null"):
        pipeline("random", [FORMAT])
