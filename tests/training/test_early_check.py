"""The start check before the scans: what stops a run, and what is only reported."""

import re
from dataclasses import replace

import pytest
import torch

from epic100.base.errors import EpicError
from epic100.settings import TrainSettings
from epic100.training.early_call import EarlyCheck, passed_before, run_early_check
from epic100.training.early_check import check_early
from support.checkout import CLASSES, ROOT
from support.small_runs import DEMO, SMALL, write_sheet

pytestmark = pytest.mark.slow


@pytest.fixture
def looked_at(lab, tmp_path):
    """A check of the lab's annotations and videos, with no result of a scan yet."""
    sheet = write_sheet(lab, tmp_path)
    csvs = {"train": "EPIC_100_train.csv", "val": "EPIC_100_validation.csv"}
    section = TrainSettings(config=str(ROOT / DEMO), load_from=None).model_dump(by_alias=True)

    def check(options=None, load_from=None, **changes):
        settings = section | {"options": SMALL | (options or {}), "load_from": load_from}
        settings |= changes.pop("settings", {})
        made = EarlyCheck(
            settings=settings, weights_to_come="",
            annotations={name: str(lab.folder / "annotations" / csvs[name]) for name in csvs},
            sheet=str(sheet), video_root=lab.root, participants=["P01", "P02", "P03"],
            results=str(tmp_path / "results"), num_verbs=97, num_nouns=300,
            reading={"classes": CLASSES, "format": "official", "subset": False},
        )  # fmt: skip
        return replace(made, **changes)

    return check


def test_a_training_that_works_is_tried_and_this_is_kept_until_a_setting_or_a_file_changes(
    looked_at, tmp_path
):
    check, file = looked_at(), tmp_path / "start_check.txt"
    outcome = run_early_check(check, file, tmp_path / "log.txt")
    text = outcome.text
    assert outcome.error == "" and "error:" not in text and file.read_text().startswith(text)
    assert "4 videos of the sheet are there" in text
    assert "one step and one validation on P0" in text and "heads: pair, " in text
    assert "13 frames, 6 apart at the file's rate" in text
    assert re.search(r"prediction  10 clips x 1 crops of each of [1-9]\d* segments: 10 times", text)
    assert "GB free in" in text
    assert passed_before(check, file)
    assert not passed_before(looked_at({"optim_wrapper.optimizer.lr": 0.1}), file)
    (tmp_path / "sheet.tsv").write_text("")
    assert not passed_before(check, file)


@pytest.mark.parametrize("slip, words", [
    ({"options": {"model.cls_head.num_classes": 7}},
     ("the head has 7 outputs", "EPIC_100_train.csv", "expected 8 outputs", "`train: options:`")),
    ({"options": {"model.cls_head.dropout_rate": 0.5}},
     ("TypeError", "dropout_rate", "did you mean 'dropout_ratio'?", "correct `train: options:`")),
    ({"options": {"optim_wrapper.optimizer.learning_rate": 0.5}},
     ("learning_rate", "a training step with these settings fails")),
    ({"options": {"optim_wraper.optimizer.lr": 0.5}},
     ("optim_wraper.optimizer.lr", "did you mean 'optim_wrapper'?")),
    ({"options": {"batch_size": 4}},
     ("batch_size", "changes nothing", "train_dataloader.batch_size")),
    ({"settings": {"batch_size": 5, "accumulate": 2}}, ("batch_size is 5", "multiple of 2")),
    ({"settings": {"batch_size": 6, "device": "cpu", "gpus": 2, "nodes": 2}},
     ("batch_size is 6", "multiple of 4")),
    ({"annotations": {"train": "no.csv", "val": "no.csv"}},
     ("no.csv: no such file", "annotations: download: true")),
    ({"participants": ["P09"]}, ("no segment with a verb and a noun",)),
])  # fmt: skip
def test_a_training_that_cannot_work_is_found(looked_at, slip, words):
    screen = check_early(looked_at(**slip))
    for word in words:
        assert word in screen.error
    assert "\n" not in screen.error
    assert screen.text().startswith("Start check: 1 of ")
    assert "\nready   disk" in screen.text()  # the other topics are shown too


@pytest.mark.parametrize("views, words", [
    ({"clips": 3, "crops": 1}, "predict: clips is 3, .* cannot give them"),
    ({"clips": 1, "crops": 3}, "predict: crops is 3, .* no CenterCrop"),
])  # fmt: skip
def test_views_that_the_model_cannot_give_are_found_before_it_is_trained(looked_at, views, words):
    steps = ["OpenSegment", "SampleFrames", "DecodeSegment", "Resize", "FormatShape"]
    given = [{"type": step, "clip_len": 1} if step == "SampleFrames" else {"type": step}
             for step in steps]  # fmt: skip
    screen = check_early(looked_at({"test_dataloader.dataset.pipeline": given}, views=views))
    assert re.search(words, screen.error)


def test_weights_of_another_model_are_found(looked_at, tmp_path):
    torch.save({"state_dict": {"other.weight": torch.zeros(3)}}, tmp_path / "other.pth")
    error = check_early(looked_at(load_from=str(tmp_path / "other.pth"))).error
    assert "other.pth: weights of another model: 0 of its 1 tensors fit" in error


def test_without_videos_and_annotations_all_else_is_tried(looked_at, tmp_path):
    none = {"annotations": {"train": "no.csv", "val": "no.csv"}, "annotations_to_come": True}
    screen = check_early(looked_at(video_root=str(tmp_path), **none))
    assert screen.error == ""
    assert "later   segments    train: no.csv is not there yet" in screen.text()
    assert "none of the 4 videos" in screen.text()
    assert "on grey pictures, as no video can be read" in screen.text()


def test_a_head_of_the_size_of_the_clean_pairs_is_right(looked_at, lab, tmp_path):
    (tmp_path / "results/clean").mkdir(parents=True)
    lines = (lab.folder / "results/clean/pairs.tsv").read_text().splitlines(keepends=True)
    (tmp_path / "results/clean/pairs.tsv").write_text("".join(lines[:8]))  # seven pairs
    assert check_early(looked_at({"model.cls_head.num_classes": 7})).error == ""


def test_too_little_disk_is_found(looked_at, tmp_path):
    sheet = tmp_path / "sheet.tsv"
    rows = (f"P01_{n}\tP01\ttest\t50.0\t1e6\n" for n in range(1000, 11000))  # 55 TB of indexes
    sheet.write_text(sheet.read_text() + "".join(rows))
    error = check_early(looked_at()).error
    assert "GB free in" in error and "free some space, or choose another folder" in error


def test_a_check_that_does_not_finish_is_an_error_only_if_it_was_asked_for(
    looked_at, tmp_path, monkeypatch
):
    check, file, log = looked_at({}), tmp_path / "start_check.txt", tmp_path / "log.txt"
    monkeypatch.setenv("PYTHONHASHSEED", "none")  # with which no Python starts
    outcome = run_early_check(check, file, log)
    assert "did not finish" in outcome.text and outcome.error == ""
    with pytest.raises(EpicError, match=r"did not finish; .*log\.txt has the details"):
        run_early_check(check, file, log, must_finish=True)
    assert not file.exists()
