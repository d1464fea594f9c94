import json

import pytest

from epic100.training import TrainSettings, build_config
from epic100.training.stamp import differences, open_work_dir, read_stamp, run_stamp
from support.small_runs import copy_results


@pytest.fixture
def results(lab, tmp_path):
    return copy_results(lab, tmp_path)


def stamp(lab, results, processes=1, **settings):
    chosen = {"config": "config/x3d_demo.py", **settings}
    return run_stamp(build_config(TrainSettings(**chosen), str(results), lab.root), processes)


def test_where_files_stand_and_how_they_are_loaded_make_no_other_run(lab, results, tmp_path):
    first = stamp(lab, results)
    moved = copy_results(lab, tmp_path / "moved")
    options = {"train_dataloader.num_workers": 3, "default_hooks.logger.interval": 7,
               "train_dataloader.dataset.data_root": "elsewhere"}  # fmt: skip
    assert first == stamp(lab, moved, options=options, validate={"every": 3, "segments": 2},
                          checkpoint={"seconds": 5, "keep": 9})  # fmt: skip
    assert first == stamp(lab, results, batch_size=4, processes=2)  # 8 segments a step


@pytest.mark.parametrize("settings, words", [
    ({"seed": 1}, "train_dataloader.dataset.seed (0 there, 1 here), randomness.seed"),
    ({"epochs": 3}, "train_cfg.max_epochs (40 there, 3 here)"),
    ({"batch_size": 4}, "global batch (8 there, 4 here)"),
    ({"target_fps": 30}, "target_fps (absent there, 30 here)"),
    ({"options": {"optim_wrapper.optimizer.lr": 0.5}}, "optimizer.lr (0.003 there, 0.5 here)"),
    ({"options": {"model.cls_head.dropout_ratio": 0.1}}, "dropout_ratio (0.0 there, 0.1 here)"),
])  # fmt: skip
def test_a_setting_that_can_change_the_weights_makes_another_run(lab, results, settings, words):
    differing = differences(stamp(lab, results), stamp(lab, results, **settings))
    assert words in differing


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
    folder = open_work_dir(tmp_path, first)
    assert read_stamp(folder) == json.loads((folder / "stamp.json").read_text()) == first
    assert open_work_dir(tmp_path, dict(reversed(first.items()))) == folder
    assert open_work_dir(tmp_path, second) != folder
