"""The start check: the errors that stop a training before the first job or the first step."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mmaction.models.heads import I3DHead
from mmaction.registry import MODELS

from epic100.download.weights import StartWeights
from epic100.inputs.before_start import LOG, StartCheckRequest, outlooks, run_start_check
from epic100.inputs.start_check import start_check
from epic100.settings import START_CHECK_KEYS, Annotations, read_settings
from epic100.training import loop
from support.checkout import ROOT
from support.lab import write_sheet
from support.small_runs import DEMO, SMALL, work_dir

pytestmark = pytest.mark.slow


@pytest.fixture
def request_of(lab, tmp_path, monkeypatch):
    """Make the request of a start check, in a folder without a scan or a clean list."""
    monkeypatch.chdir(tmp_path)
    sheet = write_sheet(lab.videos.values(), tmp_path)
    csvs = lab.folder / "annotations"
    lab_csvs = {
        "train": str(csvs / "EPIC_100_train.csv"),
        "val": str(csvs / "EPIC_100_validation.csv"),
    }

    def request(
        recipe=ROOT / DEMO,
        options=None,
        train=None,
        annotations=lab_csvs,
        root=lab.root,
        predict=None,
        modules=None,
        **changes,
    ):
        small = SMALL if recipe == ROOT / DEMO else {}
        given = {
            "annotations": annotations,
            "videos": {"root": root, "sheet": str(sheet)},
            "train": {"options": small | (options or {}), **(train or {})},
            "predict": predict or {},
            "modules": modules or {},
        }
        first = StartCheckRequest(
            config=read_settings(given).only(*START_CHECK_KEYS),
            recipe=str(recipe),
            weights=None,
            report_path=str(tmp_path / "start_check.txt"),
            folder=str(ROOT),
        )
        return replace(first, **changes)

    return request


def test_a_training_that_works_is_tried_and_described(request_of, tmp_path):
    first = request_of()
    text = run_start_check(first)
    assert Path(first.report_path).read_text().startswith(f"{text}\nchecked: ")
    assert text.startswith("Start check: nothing is wrong\n") and "error:" not in text
    for words in (
        "data: 17 segments of 3 videos, 8 pairs",
        "val: 4 segments",
        "clip: 13 frames, 6 apart at the file's rate",
        "a step, a validation, a save and a prediction on real segments: loss ",
        "predict: 10 clips x 1 crops of each of 4",
        "GB free in",
    ):
        assert words in text
    assert re.search(r"time: about [\d.]+ ", text)
    assert outlooks([first])[0].startswith("trains, about ")
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["logs"]


@pytest.mark.parametrize("changed", ["mine.py", "base.py", Annotations().train, "sheet.tsv"])
def test_a_check_is_repeated_after_a_change_of_a_file_that_it_read(request_of, tmp_path, changed):
    """The check looked only at paths that the config sets and at the recipe file itself.

    So after a change of a default annotation file or of a recipe's base, an old answer was shown.
    """
    (tmp_path / "base.py").write_text("")
    (tmp_path / "mine.py").write_text("_base_ = ['base.py']")
    first = request_of(recipe=tmp_path / "mine.py", annotations={})
    Path(first.report_path).write_text(f"screen\nchecked: {first.digest()}\n")
    assert first.earlier_report() == "screen"
    (tmp_path / changed).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / changed).write_text("_base_ = ['base.py']  # changed")
    assert not first.earlier_report() and outlooks([first])[0] == "trains; how long: epic100 check"


def test_a_check_is_repeated_for_another_rate(request_of):
    """It is not for another seed, as tests/cli/test_check.py shows."""
    another_rate = request_of(options={"optim_wrapper.optimizer.lr": 0.1})
    assert another_rate.digest() != request_of().digest()


def test_an_error_of_our_own_code_gives_no_advice_about_the_config(request_of, monkeypatch):
    """A bug of ours was reported with the advice to correct `train: options:`."""
    monkeypatch.setattr(loop, "clip_without_reading", None)
    with pytest.raises(TypeError, match="not callable"):
        start_check(request_of())


@MODELS.register_module()
class GrowingHead(I3DHead):
    """A head that makes a layer of its own in its first forward pass, and learns with it.

    Its training would go to the end, but its model file could not be loaded.
    """

    def forward(self, x, **kwargs):
        if not hasattr(self, "late"):
            self.late = torch.nn.Linear(self.num_classes, self.num_classes)
        return self.late(super().forward(x, **kwargs))


GROWING_HEAD = {
    "_delete_": True,
    "type": "GrowingHead",
    "in_channels": 432,
    "num_classes": 8,
    "average_clips": "prob",
}
UNMIXABLE_LOSS = {
    "model.data_preprocessor.blending": {"type": "MixClips", "num_classes": 0},
    "model.cls_head.head.loss_cls": {"type": "CBFocalLoss"},
}
RAND_AUGMENT = {"type": "PytorchVideoWrapper", "op": "RandAugment"}
FLIP_FOR_CROP = {"test_dataloader.dataset.pipeline.3": {"_delete_": True, "type": "Flip"}}
# The hook of a user raises an error in the first step.
RAISING = {"type": "RaisingHook", "at": 1, "tried": True}


@pytest.mark.parametrize(
    "mistake, words",
    [
        pytest.param(
            {"options": {"model.cls_head.head.num_classes": 7}},
            ["`num_classes` 7", "there are, 8"],
            id="a number of classes",
        ),
        pytest.param(
            {"options": {"model.cls_head.head.in_channels": 7}},
            [
                "RuntimeError",
                "a training step with these settings fails",
                "correct `train: options:`",
            ],
            id="channels of the head",
        ),
        pytest.param(
            {"options": UNMIXABLE_LOSS},
            ["take `model.data_preprocessor.blending` out"],
            id="a loss without mixed labels",
        ),
        pytest.param(
            {"options": {"train_dataloader.dataset.pipeline.4": RAND_AUGMENT}},
            ["Install pytorchvideo"],
            id="a package that is not installed",
        ),
        pytest.param(
            {"options": {"default_hooks.timer.every": 2}},
            ["nothing reads default_hooks.timer.every"],
            id="an option that nothing reads",
        ),
        pytest.param(
            {"options": {"default_hooks.mine": RAISING}},
            ["these settings fails (KeyError: 'my_figure')"],
            id="a hook of the user",
        ),
        pytest.param(
            {"options": {"train_dataloader.dataset.pipeline.3.size": 600}},
            ["a training step"],
            id="a crop larger than the picture",
        ),
        pytest.param(
            {"options": {"val_dataloader.dataset.pipeline.4.input_format": "NCHW"}},
            ["Error", "with these settings fails"],
            id="the validation's input",
        ),
        pytest.param(
            {"options": {"model.cls_head": GROWING_HEAD}, "modules": {"imports": [__name__]}},
            ['Unexpected key(s) in state_dict: "cls_head.late'],
            id="a model that cannot be loaded",
        ),
        pytest.param(
            {"train": {"batch_size": 5, "accumulate": 2}},
            ["batch_size is 5", "multiple of 2"],
            id="shares of one process",
        ),
        pytest.param(
            {"train": {"batch_size": 6, "device": "cpu", "gpus": 2, "nodes": 2}},
            ["batch_size is 6", "multiple of 4"],
            id="shares of two nodes",
        ),
        pytest.param(
            {"train": {"batch_size": 10**8}},
            ["a step of 100000000 segments keeps", "batch_size`"],
            id="memory",
        ),
        pytest.param(
            {"train": {"precision": "fp16", "device": "cpu"}},
            ["fp16", "needs a GPU", "expected fp32"],
            id="fp16 on a CPU",
        ),
        pytest.param(
            {"train": {"precision": "bf16", "gpus": 0}, "remote": True},
            ["bf16", "expected fp32"],
            id="bf16 on another machine's CPU",
        ),
        pytest.param(
            {"train": {"bn": "sync", "device": "cpu"}},
            ["bn is sync", "expected local or frozen"],
            id="synced BatchNorm on a CPU",
        ),
        pytest.param(
            {"annotations": {"train": "no.csv", "val": "val_no.csv", "download": False}},
            ["no.csv: no such file", "annotations: download: true"],
            id="no annotations",
        ),
        pytest.param(
            {"predict": {"crops": 3}, "options": FLIP_FOR_CROP},
            ["predict: crops is 3", "no CenterCrop"],
            id="crops without a crop",
        ),
    ],
)
def test_a_training_that_cannot_work_is_one_line(request_of, mistake, words):
    table = start_check(request_of(**mistake))
    (error,) = table.errors
    assert [word for word in words if word not in error] == []
    assert "\n" not in error and table.text().endswith(f"error: {error}")


def test_without_videos_and_annotations_all_else_is_tried(request_of, tmp_path):
    table = start_check(
        request_of(
            annotations={"train": "no.csv", "val": "val_no.csv", "download": True},
            root=str(tmp_path),
            remote=True,
            train={"precision": "bf16"},
            weights=StartWeights("http://a.b/c.pth", "weights/a.b/c.pth"),
        )
    )
    assert not table.errors
    text = table.text()
    assert "M parameters\n" in text
    assert re.search(r"tried: no step yet, the training job begins with it .*No such file", text)
    assert "weights: http://a.b/c.pth: fetched by the run" in text
    assert "device: of another machine" in text and "\n    time:" not in text


def test_segments_count_if_their_video_is_there_and_they_were_not_dropped(
    request_of, lab, tmp_path
):
    videos = tmp_path / "videos/P01"
    videos.mkdir(parents=True)
    # P01_02 is a video of val, P01_01 one of train.
    (videos / "P01_02.MP4").symlink_to(Path(lab.root) / "P01/P01_02.MP4")
    assert "no segment with a verb and a noun" in start_check(request_of(root="videos")).errors[0]
    (videos / "P01_01.MP4").symlink_to(Path(lab.root) / "P01/P01_01.MP4")
    data = dict(start_check(request_of(root="videos")).rows)["data"]
    number = int(data.split()[0])
    # The three videos of train have 17 segments.
    assert "of 1 videos" in data and 1 < number < 17
    dropped = tmp_path / "results/clean/dropped.tsv"
    dropped.parent.mkdir(parents=True)
    dropped.write_text(
        "narration_id\tsplit\treason\n"
        "P01_01_0\ttrain\ttouches damaged frames 3-9 (P01_01)\n"
        "P01_01_1\ttrain\tvideo missing\n"
    )
    # The video of the second dropped segment is there by now, so only the first is not counted.
    data = dict(start_check(request_of(root="videos")).rows)["data"]
    assert data.startswith(f"{number - 1} segments of 1 videos")


def test_too_little_disk_is_found_whatever_another_run_has_saved(request_of, tmp_path):
    sheet, checkpoint = (
        tmp_path / "sheet.tsv",
        tmp_path / "results/work_dirs/a/attempt_1/iter_9.pth",
    )
    # No video is there, so all of them count. The indexes of these 1,000 videos of 1e6 seconds each
    # would need 5.5 TB.
    rows = (f"P01_{number}\tP01\ttest\t50.0\t1e6\n" for number in range(1000, 2000))
    sheet.write_text(sheet.read_text() + "".join(rows))
    checkpoint.parent.mkdir(parents=True)
    (checkpoint.parent.parent / "stamp.json").write_text('{"clean list": "ab"}')
    # The checkpoint of the other run is a sparse file of 8 TB, more than what is needed.
    with checkpoint.open("wb") as file:
        file.truncate(8 * 10**12)
    table = start_check(request_of(root=str(tmp_path)))
    assert re.search(r"GB free in .*; this run needs about \d{4}\.", table.errors[0])
    assert "free some space, or choose another folder" in table.errors[0]


def test_a_check_that_does_not_finish_is_said_and_not_kept(request_of, monkeypatch):
    # No Python starts with this value.
    monkeypatch.setenv("PYTHONHASHSEED", "none")
    first = request_of()
    assert run_start_check(first) == f"Start check: it did not finish; {LOG} has the details"
    assert not Path(first.report_path).exists()


@pytest.mark.thorough
def test_a_missing_compiler_is_one_error(request_of, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    # `monkeypatch` would take the compiler away from later tests for good.
    with torch._inductor.config.patch({"cpp.cxx": ("no-compiler",)}):
        (error,) = start_check(request_of(train={"compile": True, "device": "cpu"})).errors
    assert "a training step with these settings fails" in error
    assert error.endswith("set `train: compile: false`")


def test_a_training_begins_with_the_check_which_leaves_no_file(lab, straight, tmp_path):
    text = "\n".join(straight.said)
    assert "a step, a validation, a save and a prediction on real segments: loss " in text
    assert "schedule: 3 epochs of 3 steps; batch 2; AdamW" in text
    folder = work_dir(straight.results)
    names = {path.name for path in folder.iterdir() if not path.is_dir()}
    assert names == {"best.pth", "iter_6.pth", "iter_9.pth", "training.tsv", "small_recipe.py"}
    assert not (folder / "preflight").exists()
