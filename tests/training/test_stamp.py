"""The stamp of a run: which settings and files make another run, and which do not."""

import json
import shutil

import pytest

from epic100.settings import TrainSettings
from epic100.settings.section import about
from epic100.training.run import differences, open_run_dir, read_stamp, run_stamp
from support.small_runs import built, copy_results


@pytest.fixture
def results(lab, tmp_path):
    return copy_results(lab, tmp_path)


def stamp(lab, results, processes=1, **settings):
    """The stamp of a run with these settings."""
    return run_stamp(built(lab, results, **settings), processes)


# Each of these settings makes another run.
ANOTHER_RUN = {
    "config": "config/slowonly_demo.py",
    "split": "trainval",
    # Any file serves here.
    "load_from": __file__,
    "epochs": 3,
    "batch_size": 4,
    "seed": 1,
    "options": {"optim_wrapper.optimizer.lr": 0.5},
    "scale_lr": False,
    "label_smoothing": 0.2,
    "ema": 0.9,
    "dropout": 0.3,
    "heads": "both",
    "precision": "bf16",
    "bn": "frozen",
}
# These settings make no other run: they change how a run is loaded, computed, saved and watched.
THE_SAME_RUN = {
    "workers": 3,
    "max_broken": 0.5,
    "checkpoint": {"seconds": 5, "keep": 9},
    "validate": {"every": 3, "segments": 2},
    "device": "cpu",
    "gpus": 0,
    "nodes": 2,
    "channels_last": False,
    "compile": True,
    "accumulate": 2,
}


def test_every_field_of_the_settings_is_known_to_make_another_run_or_not():
    names = set(TrainSettings.fields_by_key())
    # Like `load_from`, these settings decide which start weights are read.
    start_weights = {"load_from_sha256", "from_scratch"}
    assert {*ANOTHER_RUN, *THE_SAME_RUN} == names - start_weights


def test_a_sweep_takes_what_makes_another_run_but_for_other_weights_and_lists():
    swept = {name for name, field in TrainSettings.model_fields.items() if about(field)["sweep"]}
    assert swept == set(ANOTHER_RUN) - {"split", "load_from"}


# For some of these settings, the words in which two stamps differ.
DIFFERENCES = {
    "seed": "train_dataloader.dataset.seed (0 there, 1 here), randomness.seed",
    "epochs": "train_cfg.max_epochs (40 there, 3 here)",
    "batch_size": "global batch (8 there, 4 here)",
    "options": "optimizer.lr (0.003 there, 0.5 here)",
    "dropout": "dropout_ratio (0.0 there, 0.3 here)",
}


@pytest.mark.parametrize("name", ANOTHER_RUN)
def test_a_field_that_changes_what_is_learned_makes_another_run_and_it_is_said(lab, results, name):
    shutil.copy(results / "clean/val.txt", results / "clean/trainval.txt")
    shutil.copy(results / "clean/pairs.tsv", results / "clean/trainval_pairs.tsv")
    first, second = stamp(lab, results), stamp(lab, results, **{name: ANOTHER_RUN[name]})
    assert first != second and DIFFERENCES.get(name, "") in differences(first, second)


def test_a_field_that_does_not_change_what_is_learned_leaves_the_stamp(lab, results):
    for name, value in THE_SAME_RUN.items():
        assert TrainSettings.model_validate({name: value}) != TrainSettings()
        assert stamp(lab, results) == stamp(lab, results, **{name: value}), name


def test_where_files_stand_and_how_they_are_loaded_make_no_other_run(lab, results, tmp_path):
    first = stamp(lab, results)
    moved = copy_results(lab, tmp_path / "moved")
    options = {
        "default_hooks.logger.interval": 7,
        "train_dataloader.dataset.data_root": "elsewhere",
    }
    assert first == stamp(lab, moved, options=options)
    # Both runs take 8 segments a step.
    assert first == stamp(lab, results, batch_size=4, processes=2)


def test_other_segments_pairs_or_start_weights_make_another_run(lab, results, tmp_path):
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"one")
    first = stamp(lab, results, load_from=str(weights))
    for path, key in (
        (results / "clean/train.txt", "clean list"),
        (results / "clean/pairs.tsv", "pair table"),
        (weights, "start weights"),
    ):
        before = path.read_bytes()
        path.write_bytes(before + b"\n")
        assert differences(first, stamp(lab, results, load_from=str(weights))).startswith(key)
        path.write_bytes(before)


def test_a_work_dir_is_named_after_its_stamp_and_holds_it(tmp_path):
    first, second = ({"clean list": "a", "seed": seed} for seed in "01")
    folder = open_run_dir(tmp_path, first)
    assert read_stamp(folder) == json.loads((folder / "stamp.json").read_text()) == first
    assert open_run_dir(tmp_path, dict(reversed(first.items()))) == folder
    assert open_run_dir(tmp_path, second) != folder
