"""A lab's config becomes one for our segments, and its pairs are those of the outputs."""

from collections import Counter
from pathlib import Path

import pytest

from epic100.base.errors import EpicError
from epic100.cli.lab_checkpoint import (
    pairs_in_output_order,
    predicting_config,
    read_config,
    read_pair_order,
)

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


def test_a_lab_s_pipeline_becomes_our_steps(tmp_path):
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


def test_steps_around_sampling_may_be_the_lab_s(tmp_path):
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
def test_a_config_without_counterpart_is_an_error(before, after, words, tmp_path):
    with pytest.raises(EpicError, match=f"lab: .*{words}"):
        converted(write_config(tmp_path, (before, after)))


@pytest.mark.parametrize(
    "name, words",
    [
        ("broken.py", r"broken\.py: not readable as an MMEngine config"),
        ("gone.py", r"gone\.py: no such MMAction2 config"),
    ],
)
def test_no_config_in_a_file_is_an_error(name, words, tmp_path):
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


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("9 7\n0 5\n2 2\n0 1\n", id="spaces"),
        pytest.param("verb,noun\n9,7\n0,5\n2,2\n0,1\n", id="commas and a header"),
        pytest.param("\ufeff9 7\n\n0 5\n2 2\n0 1\n", id="byte order mark and an empty line"),
    ],
)
def test_a_pair_order_is_read_in_several_forms(text, tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text(text, encoding="utf-8")
    assert read_pair_order(path) == [(9, 7), (0, 5), (2, 2), (0, 1)]


@pytest.mark.parametrize(
    "text, words",
    [
        ("0 1\n0 x\n", r"line 2: '0 x'; expected `verb noun` a line"),
        ("0 1\n0 1 2\n", r"line 2: '0 1 2'"),
        ("0 1\n-1 2\n", r"line 2: '-1 2'"),
        ("1\n2\n", r"line 1: '1'"),
        ("0 7 1\n1 8 5\n", r"line 1: '0 7 1'"),
        ("0 1\n5 2\n0 1\n", r"verb 0 with noun 1 is there twice"),
        ("", r"0 pairs"),
        ("\xff", "cannot be read as text"),
    ],
)
def test_a_bad_pair_order_has_its_line(text, words, tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(EpicError, match=rf"pairs\.txt: {words}"):
        read_pair_order(path)


@pytest.mark.parametrize(
    "order, pairs",
    [("first-seen", [(9, 7), (0, 5), (2, 2)]), ("sorted", [(0, 5), (2, 2), (9, 7)])],
)
def test_a_train_list_gives_order_and_counts(order, pairs, tmp_path):
    labels = ("9 7", "0 5", "9 7", "2 2", "-1 -1")
    path = tmp_path / "train.txt"
    path.write_text(
        "".join(f"P01/P01_01.MP4 {n} {n + 9} {label}\n" for n, label in enumerate(labels))
    )
    assert pairs_in_output_order(path, order) == (pairs, Counter({(9, 7): 2, (0, 5): 1, (2, 2): 1}))
    path.write_text("P01/P01_01.MP4 0 9 -1 -1\n")
    with pytest.raises(EpicError, match="no line with a verb and a noun"):
        pairs_in_output_order(path, order)
