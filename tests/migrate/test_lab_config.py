import pytest
from mmengine.config import Config

from epic100.base.errors import EpicError
from epic100.migrate.checkpoint import predicting_config, read_config

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


@pytest.fixture
def lab_config(tmp_path):
    path = tmp_path / "x3d_s_lab.py"
    path.write_text(LAB_CONFIG)
    return path


def test_a_lab_s_config_becomes_its_model_over_our_segments(lab_config):
    config, notes = predicting_config(read_config(lab_config), "lab")
    assert len(notes) == 1 and "`predict: {clips: 10, crops: 3}`" in notes[0]
    assert config.model.cls_head.num_classes == 3477
    assert config.model.backbone.gamma_d == 2.2
    dataset = config.test_dataloader.dataset
    assert dataset.type == "EpicSegmentVideoDataset" and dataset.test_mode
    assert [step.type for step in dataset.pipeline] == [
        "OpenSegment", "SampleFrames", "DecodeSegment", "Resize", "CenterCrop", "FormatShape",
        "PackActionInputs",
    ]  # fmt: skip
    sample, crop = dataset.pipeline[1], dataset.pipeline[4]
    assert (sample.clip_len, sample.frame_interval, sample.num_clips) == (13, 6, 1)
    assert sample.test_mode and crop.crop_size == 182
    assert "narration_id" in dataset.pipeline[-1].meta_keys
    assert Config.fromstring(config.pretty_text, ".py").model == config.model


def test_a_lab_s_own_reader_is_known_by_its_place_and_named(lab_config):
    text = LAB_CONFIG.replace("'DecordInit', num_threads=1", "'LabSegmentInit', clock=60")
    lab_config.write_text(text.replace("DecordDecode", "LabDecode"))
    config, notes = predicting_config(read_config(lab_config), "lab")
    pipeline = config.test_dataloader.dataset.pipeline
    assert pipeline[0] == dict(type="OpenSegment", decoder="pyav")
    assert pipeline[2] == dict(type="DecodeSegment")
    assert [note.split(" ")[0] for note in notes[:2]] == ["LabSegmentInit", "LabDecode"]


@pytest.mark.parametrize("before, after, words", [
    ("'Resize'", "'LabResize'", "step LabResize of the test pipeline has no counterpart"),
    ("'DecordDecode'", "'LabFrames'", "step LabFrames of the test pipeline has no counterpart"),
    ("dict(type='DecordDecode'),", "", "its test pipeline is DecordInit, SampleFrames, Resize"),
    ("'SampleFrames'", "'DenseSampleFrames'", "step DenseSampleFrames of the test pipeline"),
    ("test_dataloader", "data", "expected `model` and `test_dataloader` .*MMAction2 0.x"),
    ("num_classes=pairs, ", "", "model has no cls_head.num_classes"),
    ("pipeline=test_pipeline, ", "", "its test pipeline is no list of steps"),
])  # fmt: skip
def test_a_config_that_has_no_counterpart_is_one_error(lab_config, before, after, words):
    lab_config.write_text(LAB_CONFIG.replace(before, after))
    with pytest.raises(EpicError, match=f"lab: .*{words}"):
        predicting_config(read_config(lab_config), "lab")


def test_a_config_that_does_not_read_is_one_error(lab_config, tmp_path):
    lab_config.write_text("_base_ = '../nowhere.py'\n")
    with pytest.raises(EpicError, match=r"x3d_s_lab\.py: not readable as an MMEngine config"):
        read_config(lab_config)
    with pytest.raises(EpicError, match=r"no such MMAction2 config"):
        read_config(tmp_path / "gone.py")


@pytest.mark.parametrize("step, kept, clips", [
    ("type='SampleFrames', clip_len=1, frame_interval=1, num_clips=8", {"num_clips": 8}, 1),
    ("type='UniformSample', clip_len=16, num_clips=4", {"num_clips": 1, "clip_len": 16}, 4),
])  # fmt: skip
def test_frames_over_the_whole_segment_stay_so(lab_config, step, kept, clips):
    dense = "type='SampleFrames', clip_len=13, frame_interval=6, num_clips=10"
    lab_config.write_text(LAB_CONFIG.replace(dense, step))
    config, notes = predicting_config(read_config(lab_config), "lab")
    found = config.test_dataloader.dataset.pipeline[1]
    assert found.type in step and found.test_mode and kept.items() <= dict(found).items()
    assert f"`predict: {{clips: {clips}, crops: 3}}`" in notes[-1]
