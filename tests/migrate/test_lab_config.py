import pytest

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
    """Writes the lab's config with changes of its text, and returns its file."""
    path = tmp_path / "x3d_s_lab.py"

    def written(*changes):
        text = LAB_CONFIG
        for before, after in changes:
            assert before in text
            text = text.replace(before, after)
        path.write_text(text)
        return path

    return written


def converted(path):
    """The model, the dataset of the test and the notes that a config becomes."""
    config, notes = predicting_config(read_config(path), "lab")
    return config["model"], config["test_dataloader"]["dataset"], notes


def test_a_lab_s_config_becomes_its_model_over_our_segments(lab_config):
    model, dataset, notes = converted(lab_config())
    assert len(notes) == 1 and "`predict: {clips: 10, crops: 3}`" in notes[0]
    assert model["cls_head"]["num_classes"] == 3477 and model["backbone"]["gamma_d"] == 2.2
    assert dataset["type"] == "EpicSegmentVideoDataset" and dataset["test_mode"]
    opened, sample, decoded, *_, crop, _, packed = dataset["pipeline"]
    assert opened == {"type": "OpenSegment", "decoder": "pyav"}
    assert (sample["clip_len"], sample["frame_interval"], sample["num_clips"]) == (13, 6, 1)
    assert sample["test_mode"] and decoded == {"type": "DecodeSegment"}
    assert crop == {"type": "CenterCrop", "crop_size": 182}
    assert packed["type"] == "PackActionInputs" and "narration_id" in packed["meta_keys"]


def test_a_lab_s_own_reader_is_known_by_its_place_and_named(lab_config):
    opening = "'DecordInit', num_threads=1"
    path = lab_config((opening, "'LabSegmentInit', clock=60"), ("DecordDecode", "LabDecode"))
    _, dataset, notes = converted(path)
    steps = [step["type"] for step in dataset["pipeline"]]
    assert (steps[0], steps[2]) == ("OpenSegment", "DecodeSegment")
    assert [note.split(" ")[0] for note in notes[:2]] == ["LabSegmentInit", "LabDecode"]


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
def test_a_config_that_has_no_counterpart_is_one_error(lab_config, before, after, words):
    with pytest.raises(EpicError, match=f"lab: .*{words}"):
        converted(lab_config((before, after)))


def test_a_config_that_does_not_read_is_one_error(lab_config, tmp_path):
    with pytest.raises(EpicError, match=r"x3d_s_lab\.py: not readable as an MMEngine config"):
        read_config(lab_config((LAB_CONFIG, "_base_ = '../nowhere.py'\n")))
    with pytest.raises(EpicError, match=r"no such MMAction2 config"):
        read_config(tmp_path / "gone.py")


@pytest.mark.parametrize(
    "step, kept, clips",
    [
        ("type='SampleFrames', clip_len=1, frame_interval=1, num_clips=8", {"num_clips": 8}, 1),
        ("type='UniformSample', clip_len=16, num_clips=4", {"num_clips": 1, "clip_len": 16}, 4),
    ],
)
def test_frames_over_the_whole_segment_stay_so(lab_config, step, kept, clips):
    dense = "type='SampleFrames', clip_len=13, frame_interval=6, num_clips=10"
    _, dataset, notes = converted(lab_config((dense, step)))
    sample = dataset["pipeline"][1]
    assert sample["type"] in step and sample["test_mode"] and kept.items() <= sample.items()
    assert f"`predict: {{clips: {clips}, crops: 3}}`" in notes[-1]
