"""The stamp of a run: which settings and files make another run, and which do not."""

import json
import shutil

import pytest

from epic100.settings import TrainSettings
from epic100.settings.section import extras_of
from epic100.training.run import differences, open_run_dir, read_stamp, run_stamp
from support.small_runs import built, copy_results


@pytest.fixture
def stamp(lab, tmp_path):
    """Make the stamp of a run with these settings, with the lists in `tmp_path / "results"`."""
    results = copy_results(lab, tmp_path)
    # A split `trainval` has lists of its own; any lists serve here.
    shutil.copy(results / "clean/val.txt", results / "clean/trainval.txt")
    shutil.copy(results / "clean/pairs.tsv", results / "clean/trainval_pairs.tsv")

    def stamp_of(processes=1, results=results, **settings):
        return run_stamp(built(lab, results, **settings), processes)

    return stamp_of


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
# These settings say how a run is loaded, computed, saved and validated, and not what it learns. So
# they make no other run: a training that was stopped may go on with another number of workers.
HARMLESS_CHANGES = {
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


def test_each_setting_is_in_one_of_the_two_tables():
    names = set(TrainSettings.fields_by_key())
    # Like `load_from`, these settings decide which start weights are read.
    start_weights = {"load_from_sha256", "from_scratch"}
    assert {*ANOTHER_RUN, *HARMLESS_CHANGES} == names - start_weights


def test_a_sweep_may_vary_what_makes_another_run_but_for_weights_and_lists():
    swept = {
        name for name, field in TrainSettings.model_fields.items() if extras_of(field)["sweep"]
    }
    assert swept == set(ANOTHER_RUN) - {"split", "load_from"}


# A message about two stamps has these words about some of the settings.
DIFFERENCES = {
    "seed": "train_dataloader.dataset.seed (0 there, 1 here), randomness.seed",
    "epochs": "train_cfg.max_epochs (40 there, 3 here)",
    "batch_size": "global batch (8 there, 4 here)",
    "options": "optimizer.lr (0.003 there, 0.5 here)",
    "dropout": "dropout_ratio (0.0 there, 0.3 here)",
}


@pytest.mark.parametrize("name", ANOTHER_RUN)
def test_a_setting_that_changes_what_is_learned_makes_another_run(stamp, name):
    first, second = stamp(), stamp(**{name: ANOTHER_RUN[name]})
    assert first != second and DIFFERENCES.get(name, "") in differences(first, second)


@pytest.mark.parametrize("name", HARMLESS_CHANGES)
def test_a_setting_that_does_not_change_what_is_learned_leaves_the_stamp(stamp, name):
    changed = {name: HARMLESS_CHANGES[name]}
    assert TrainSettings.model_validate(changed) != TrainSettings()
    assert stamp() == stamp(**changed)


def test_another_folder_of_the_files_makes_no_other_run(lab, stamp, tmp_path):
    moved = copy_results(lab, tmp_path / "moved")
    options = {
        "default_hooks.logger.interval": 7,
        "train_dataloader.dataset.data_root": "elsewhere",
    }
    assert stamp() == stamp(results=moved, options=options)


def test_the_batch_over_all_processes_counts(stamp):
    # The recipe has a batch of 8, and here each of 2 processes takes 4 segments a step.
    assert stamp() == stamp(batch_size=4, processes=2)


@pytest.mark.parametrize(
    "file, words",
    [
        ("results/clean/train.txt", "clean list"),
        ("results/clean/pairs.tsv", "pair table"),
        ("weights.pth", "start weights"),
    ],
)
def test_other_contents_of_a_file_make_another_run(stamp, tmp_path, file, words):
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"one")
    first = stamp(load_from=str(weights))
    with (tmp_path / file).open("ab") as changed:
        changed.write(b"\n")
    assert differences(first, stamp(load_from=str(weights))).startswith(words)


def test_a_run_s_folder_has_its_stamp(tmp_path):
    stamp = {"clean list": "a", "seed": "0"}
    folder = open_run_dir(tmp_path, stamp)
    assert read_stamp(folder) == json.loads((folder / "stamp.json").read_text()) == stamp
