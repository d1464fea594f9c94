"""The start check: the errors that stop a training before the first job or the first step."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mmaction.models.heads import I3DHead
from mmaction.registry import MODELS

from epic100.base.errors import EpicError
from epic100.download.weights import StartWeights
from epic100.inputs.before_start import LOG, Asked, outlooks, run_start_check
from epic100.inputs.start_check import start_check
from epic100.settings import TRYING, Annotations, read_settings
from epic100.training import loop
from support.checkout import ROOT
from support.lab import write_sheet
from support.small_runs import DEMO, SMALL, copy_results, run, work_dir

pytestmark = pytest.mark.slow


@pytest.fixture
def asked(lab, tmp_path, monkeypatch):
    """Make the request of a start check, in a folder without a scan or a clean list."""
    monkeypatch.chdir(tmp_path)
    sheet = write_sheet(lab.videos.values(), tmp_path)

    def made(recipe=ROOT / DEMO, options=None, train=None, csv=None, root=lab.root, **changes):
        csvs = lab.folder / "annotations"
        given = {
            "annotations": {
                "train": csv or str(csvs / "EPIC_100_train.csv"),
                "val": f"val_{csv}" if csv else str(csvs / "EPIC_100_validation.csv"),
                "download": changes.pop("download", False),
            },
            "videos": {"root": root, "sheet": str(sheet)},
            "train": {
                "options": (SMALL if recipe == ROOT / DEMO else {}) | (options or {}),
                **(train or {}),
            },
            "predict": changes.pop("predict", {}),
            "modules": changes.pop("modules", {}),
        }
        config, screen = read_settings(given).only(*TRYING), str(tmp_path / "start_check.txt")
        first = Asked(config, str(recipe), weights=None, screen=screen, folder=str(ROOT))
        return replace(first, **changes)

    return made


def test_a_training_that_works_is_tried_and_this_is_kept_until_a_setting_or_a_file_changes(
    asked, tmp_path
):
    first = asked()
    text = run_start_check(first)
    assert Path(first.screen).read_text().startswith(f"{text}\nchecked: ")
    assert text.startswith("Start check: nothing is wrong\n") and "error:" not in text
    assert "data: 17 segments of 3 videos, 8 pairs" in text and "val: 4 segments" in text
    assert "clip: 13 frames, 6 apart at the file's rate" in text
    assert "a step, a validation, a save and a prediction on real segments: loss " in text
    assert (
        re.search(r"time: about [\d.]+ ", text)
        and "predict: 10 clips x 1 crops of each of 4" in text
    )
    assert "GB free in" in text
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["logs"]
    # A check of the same settings is answered from the kept screen; the seed does not count.
    assert first.answer() == asked(train={"seed": 7}).answer() == text
    assert not asked(options={"optim_wrapper.optimizer.lr": 0.1}).answer()
    assert outlooks([first])[0].startswith("trains, about ")
    (tmp_path / "sheet.tsv").write_text("")
    assert not first.answer() and outlooks([first])[0] == "trains; how long: epic100 check"


def test_a_check_is_asked_again_if_a_file_changes_that_only_a_default_or_a_base_names(
    asked, tmp_path
):
    """The check looked only at paths that the config sets and at the recipe file itself.

    So after a change of a default annotation file or of a recipe's base, an old answer was shown.
    """
    for name in ("base", "mine"):
        (tmp_path / f"{name}.py").write_text("")
    (tmp_path / "mine.py").write_text("_base_ = ['base.py']")
    train_csv = tmp_path / Annotations().train
    train_csv.parent.mkdir(parents=True, exist_ok=True)
    train_csv.write_text("one")
    first = asked(recipe=tmp_path / "mine.py")
    first = replace(first, config={**first.config, "annotations": {}})
    for changed in (tmp_path / "base.py", train_csv):
        Path(first.screen).write_text(f"screen\nchecked: {first.digest()}\n")
        assert first.answer() == "screen"
        changed.write_text(changed.read_text() + "# more")
        assert not first.answer()


def test_our_own_bug_is_no_advice_about_the_config(asked, monkeypatch):
    """A TypeError in our own code was reported as an error of the config: it told the user to
    correct `train: options:`."""
    monkeypatch.setattr(loop, "clip_without_reading", None)
    with pytest.raises(TypeError, match="not callable"):
        start_check(asked())


@pytest.mark.parametrize(
    "slip, words",
    [
        ({"options": {"model.cls_head.head.num_classes": 7}}, ("`num_classes` 7", "there are, 8")),
        (
            {"options": {"model.cls_head.head.in_channels": 7}},
            (
                "RuntimeError",
                "a training step with these settings fails",
                "correct `train: options:`",
            ),
        ),
        (
            {
                "options": {
                    "model.data_preprocessor.blending": {"type": "MixClips", "num_classes": 0},
                    "model.cls_head.head.loss_cls": {"type": "CBFocalLoss"},
                }
            },
            ("take `model.data_preprocessor.blending` out",),
        ),
        (
            {
                "options": {
                    "train_dataloader.dataset.pipeline.4": {
                        "type": "PytorchVideoWrapper",
                        "op": "RandAugment",
                    }
                }
            },
            ("Install pytorchvideo",),
        ),
        (
            {"options": {"default_hooks.timer.every": 2}},
            ("nothing reads default_hooks.timer.every",),
        ),
        ({"options": {"train_dataloader.dataset.pipeline.3.size": 600}}, ("a training step",)),
        (
            {"options": {"val_dataloader.dataset.pipeline.4.input_format": "NCHW"}},
            ("Error", "with these settings fails"),
        ),
        ({"train": {"batch_size": 5, "accumulate": 2}}, ("batch_size is 5", "multiple of 2")),
        (
            {"train": {"batch_size": 6, "device": "cpu", "gpus": 2, "nodes": 2}},
            ("batch_size is 6", "multiple of 4"),
        ),
        ({"train": {"batch_size": 10**8}}, ("a step of 100000000 segments keeps", "batch_size`")),
        (
            {"train": {"precision": "fp16", "device": "cpu"}},
            ("fp16", "needs a GPU", "expected fp32"),
        ),
        ({"train": {"precision": "bf16", "gpus": 0}, "remote": True}, ("bf16", "expected fp32")),
        ({"train": {"bn": "sync", "device": "cpu"}}, ("bn is sync", "expected local or frozen")),
        ({"csv": "no.csv"}, ("no.csv: no such file", "annotations: download: true")),
        (
            {
                "predict": {"crops": 3},
                "options": {
                    "test_dataloader.dataset.pipeline.3": {"_delete_": True, "type": "Flip"}
                },
            },
            ("predict: crops is 3", "no CenterCrop"),
        ),
    ],
)
def test_a_training_that_cannot_work_is_one_line(asked, slip, words):
    table = start_check(asked(**slip))
    (error,) = table.errors
    for word in words:
        assert word in error
    assert "\n" not in error and table.text().endswith(f"error: {error}")


def test_without_videos_and_annotations_all_else_is_tried(asked, tmp_path):
    weights = StartWeights("http://a.b/c.pth", "weights/a.b/c.pth")
    table = start_check(
        asked(
            csv="no.csv",
            download=True,
            root=str(tmp_path),
            remote=True,
            train={"precision": "bf16"},
            weights=weights,
        )
    )
    assert not table.errors
    text = table.text()
    assert "M parameters\n" in text
    assert re.search(r"tried: no step yet, the training job begins with it .*No such file", text)
    assert "weights: http://a.b/c.pth: fetched by the run" in text
    assert "device: of another machine" in text and "\n    time:" not in text


def test_what_is_not_on_disk_or_was_dropped_is_not_counted(asked, lab, tmp_path):
    (tmp_path / "videos/P01").mkdir(parents=True)
    (tmp_path / "videos/P01/P01_02.MP4").symlink_to(Path(lab.root) / "P01/P01_02.MP4")
    assert "no segment with a verb and a noun" in start_check(asked(root="videos")).errors[0]
    (tmp_path / "videos/P01/P01_01.MP4").symlink_to(Path(lab.root) / "P01/P01_01.MP4")
    whole = dict(start_check(asked(root="videos")).rows)["data"]
    number = int(whole.split()[0])
    assert "of 1 videos" in whole and 1 < number < 17
    dropped = tmp_path / "results/clean/dropped.tsv"
    dropped.parent.mkdir(parents=True)
    lost = [("P01_01_0", "touches damaged frames 3-9 (P01_01)"), ("P01_01_1", "video missing")]
    rows = [f"{name}\ttrain\t{reason}\n" for name, reason in lost]
    dropped.write_text("narration_id\tsplit\treason\n" + "".join(rows))
    left = dict(start_check(asked(root="videos")).rows)["data"]
    # The video of the second dropped segment is there by now, so only the first is not counted.
    assert left.startswith(f"{number - 1} segments of 1 videos")


def test_too_little_disk_is_found(asked, tmp_path):
    sheet = tmp_path / "sheet.tsv"
    # The indexes of these videos of 1e6 seconds would need 55 TB.
    rows = (f"P01_{n}\tP01\ttest\t50.0\t1e6\n" for n in range(1000, 11000))
    sheet.write_text(sheet.read_text() + "".join(rows))
    # No video is there, so all of them count.
    table = start_check(asked(root=str(tmp_path)))
    assert re.search(r"GB free in .*; this run needs about \d{5}\.", table.errors[0])
    assert "free some space, or choose another folder" in table.errors[0]


def test_checkpoints_of_another_run_make_no_room_for_this_one(asked, tmp_path):
    sheet, other = tmp_path / "sheet.tsv", tmp_path / "results/work_dirs/other/attempt_1/iter_9.pth"
    # The indexes of these videos of 1e6 seconds would need 5.5 TB.
    rows = (f"P01_{n}\tP01\ttest\t50.0\t1e6\n" for n in range(1000, 2000))
    sheet.write_text(sheet.read_text() + "".join(rows))
    other.parent.mkdir(parents=True)
    (other.parent.parent / "stamp.json").write_text('{"clean list": "ab"}')
    # The checkpoint of the other run is a sparse file of 8 TB, more than what is needed.
    with other.open("wb") as file:
        file.truncate(8 * 10**12)
    table = start_check(asked(root=str(tmp_path)))
    assert re.search(r"this run needs about \d{4}\.", table.errors[0])


def test_a_check_that_does_not_finish_stops_nothing_and_is_not_kept(asked, monkeypatch):
    # No Python starts with this value.
    monkeypatch.setenv("PYTHONHASHSEED", "none")
    first = asked()
    assert run_start_check(first) == f"Start check: it did not finish; {LOG} has the details"
    assert not Path(first.screen).exists()


@MODELS.register_module()
class GrowingHead(I3DHead):
    """A head that makes a layer of its own in its first forward pass, and learns with it."""

    def forward(self, x, **kwargs):
        if not hasattr(self, "late"):
            self.late = torch.nn.Linear(self.num_classes, self.num_classes)
        return self.late(super().forward(x, **kwargs))


def test_a_model_that_would_be_trained_to_the_end_and_could_not_be_loaded_is_found(asked):
    head = {
        "_delete_": True,
        "type": "GrowingHead",
        "in_channels": 432,
        "num_classes": 8,
        "average_clips": "prob",
    }
    own = {"imports": [__name__]}
    (error,) = start_check(asked(options={"model.cls_head": head}, modules=own)).errors
    assert 'Unexpected key(s) in state_dict: "cls_head.late' in error


@pytest.mark.thorough
def test_a_compiler_that_is_not_there_is_one_error(asked, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    # `monkeypatch` would take the compiler away from later tests for good.
    with torch._inductor.config.patch({"cpp.cxx": ("no-compiler",)}):
        (error,) = start_check(asked(train={"compile": True, "device": "cpu"})).errors
    assert "a training step with these settings fails" in error
    assert error.endswith("set `train: compile: false`")


def test_the_training_itself_begins_with_it_and_nothing_of_it_stays(lab, straight, tmp_path):
    text = "\n".join(straight.said)
    assert "a step, a validation, a save and a prediction on real segments: loss " in text
    assert "schedule: 3 epochs of 3 steps; batch 2; AdamW" in text
    names = {path.name for path in work_dir(straight.results).iterdir() if not path.is_dir()}
    assert names == {"best.pth", "iter_6.pth", "iter_9.pth", "training.tsv", "small_recipe.py"}
    assert not (work_dir(straight.results) / "preflight").exists()
    wrong = copy_results(lab, tmp_path, segments=4)
    with pytest.raises(EpicError, match="RuntimeError"):
        run(lab, wrong, {"model.cls_head.head.in_channels": 7}, epochs=1)
    assert not list(wrong.glob("work_dirs/*/*/*.pth"))
