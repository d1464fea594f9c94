"""The config of a lab's model becomes one for our segments, or an error."""

from pathlib import Path

import pytest

from epic100.base.errors import EpicError
from epic100.cli.lab_checkpoint import predicting_config, read_config

# A lab has changed MMAction2's own X3D-S config like this.
LAB_CONFIG = """
custom_imports = dict(imports=['labtools.datasets'], allow_failed_imports=False)
pairs = 3477
model = dict(
    type='Recognizer3D',
    backbone=dict(type='X3D', gamma_w=1, gamma_b=2.25, gamma_d=2.2),
    cls_head=dict(type='X3DHead', in_channels=432, num_classes=pairs, spatial_type='avg',
                  dropout_ratio=0.5, fc1_bias=False, average_clips='prob'),
    data_preprocessor=dict(type='ActionDataPreprocessor', mean=[114.75, 114.75, 114.75],
                           std=[57.38, 57.38, 57.38], format_shape='NCTHW'),
    train_cfg=None, test_cfg=None)
test_pipeline = [
    dict(type='DecordInit', num_threads=1),
    dict(type='SampleFrames', clip_len=13, frame_interval=6, num_clips=10, test_mode=True),
    dict(type='DecordDecode'),
    dict(type='Resize', scale=(-1, 182)),
    dict(type='ThreeCrop', crop_size=182),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs')]
test_dataloader = dict(batch_size=1, num_workers=8, dataset=dict(
    type='EpicVideoDataset', ann_file='val.txt', pipeline=test_pipeline, test_mode=True))
"""


def write_config(folder: Path, *changes: tuple[str, str]) -> Path:
    """Write the lab's config, with texts of it replaced: (before, after)."""
    text = LAB_CONFIG
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    (folder / "x3d_s_lab.py").write_text(text)
    return folder / "x3d_s_lab.py"


def converted(path: Path):
    """Convert a config: the model, the dataset of the test and the notes that it becomes."""
    config, notes = predicting_config(read_config(path), "lab")
    return config["model"], config["test_dataloader"]["dataset"], notes


def test_the_pipeline_of_a_lab_becomes_the_steps_of_ours(tmp_path):
    model, dataset, notes = converted(write_config(tmp_path))
    assert model["cls_head"]["num_classes"] == 3477 and model["backbone"]["gamma_d"] == 2.2
    assert dataset["type"] == "EpicSegmentVideoDataset" and dataset["test_mode"]
    opened, sample, decoded, *_, crop, _, packed = dataset["pipeline"]
    assert opened == {"type": "OpenSegment", "decoder": "pyav"}
    assert (sample["clip_len"], sample["frame_interval"], sample["num_clips"]) == (13, 6, 1)
    assert sample["test_mode"] and decoded == {"type": "DecodeSegment"}
    assert crop == {"type": "CenterCrop", "crop_size": 182}
    assert packed["type"] == "PackActionInputs" and "narration_id" in packed["meta_keys"]
    (note,) = notes
    assert "`predict: {clips: 10, crops: 3}`" in note


def test_the_steps_around_the_sampling_step_may_be_the_lab_s_own(tmp_path):
    opening = ("'DecordInit', num_threads=1", "'LabSegmentInit', clock=60")
    _, dataset, notes = converted(write_config(tmp_path, opening, ("DecordDecode", "LabDecode")))
    first, _, third, *_ = dataset["pipeline"]
    assert (first["type"], third["type"]) == ("OpenSegment", "DecodeSegment")
    assert notes[0].startswith("LabSegmentInit ") and notes[1].startswith("LabDecode ")


@pytest.mark.parametrize(
    "before, after, words",
    [
        ("'Resize'", "'LabResize'", "step LabResize of the test pipeline has no counterpart"),
        ("'DecordDecode'", "'LabFrames'", "step LabFrames of the test pipeline has no counterpart"),
        ("dict(type='DecordDecode'),", "", "its test pipeline is DecordInit, SampleFrames, Resize"),
        ("'SampleFrames'", "'DenseSampleFrames'", "step DenseSampleFrames of the test pipeline"),
        ("test_dataloader", "data", "expected `model` and `test_dataloader` .*MMAction2 0.x"),
        ("num_classes=pairs, ", "", "model has no cls_head.num_classes"),
        ("pipeline=test_pipeline, ", "", "its test pipeline is no list of steps"),
    ],
)
def test_a_config_that_has_no_counterpart_is_one_error(before, after, words, tmp_path):
    with pytest.raises(EpicError, match=f"lab: .*{words}"):
        converted(write_config(tmp_path, (before, after)))


@pytest.mark.parametrize(
    "name, words",
    [
        ("broken.py", r"broken\.py: not readable as an MMEngine config"),
        ("gone.py", r"gone\.py: no such MMAction2 config"),
    ],
)
def test_a_file_that_is_no_config_is_one_error(name, words, tmp_path):
    (tmp_path / "broken.py").write_text("_base_ = '../nowhere.py'\n")
    with pytest.raises(EpicError, match=words):
        read_config(tmp_path / name)


@pytest.mark.parametrize(
    "step, expected, clips",
    [
        ("type='SampleFrames', clip_len=1, frame_interval=1, num_clips=8", {"num_clips": 8}, 1),
        ("type='UniformSample', clip_len=16, num_clips=4", {"num_clips": 1, "clip_len": 16}, 4),
    ],
)
def test_frames_over_the_whole_segment_stay_so(step, expected, clips, tmp_path):
    dense = "type='SampleFrames', clip_len=13, frame_interval=6, num_clips=10"
    _, dataset, notes = converted(write_config(tmp_path, (dense, step)))
    sample = dataset["pipeline"][1]
    assert sample["type"] in step and sample["test_mode"] and expected.items() <= sample.items()
    assert f"`predict: {{clips: {clips}, crops: 3}}`" in notes[-1]
