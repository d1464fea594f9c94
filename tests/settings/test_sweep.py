"""The names and settings of runs side by side."""

from epic100.settings import home_of, read_settings, runs_to_compare
from epic100.settings.config import COMPARED

LR = "optim_wrapper.optimizer.lr"


def test_the_default_run_is_in_results_and_a_named_one_in_a_folder_of_its_own():
    assert read_settings({}).home == home_of(None) == "results"
    assert read_settings({"run": "lr.3-b"}).home == home_of("lr.3-b") == "results/runs/lr.3-b"
    assert read_settings({}).runs == {}


def test_a_sweep_has_a_run_for_each_combination_and_keeps_other_settings():
    base = {"epochs": 7, "options": {"model.x": 1}}
    sweep = {"train": {"seed": [0, 1], "options": {LR: [0.1, "1e-05", 0.5]}}}
    found = read_settings({"train": base, "sweep": sweep})
    assert found.home == "results/runs/{run}"
    names = [f"lr{lr}_seed{seed}" for lr in ("0.1", "1e-05", "0.5") for seed in (0, 1)]
    assert list(found.runs) == names
    one = found.of_run("lr1e-05_seed1").train
    assert one.epochs == 7 and one.seed == 1 and one.options == {"model.x": 1, LR: 1e-05}
    assert found.train.options == {"model.x": 1} and found.of_run(None) is found


def test_whole_recipes_can_be_compared():
    found = read_settings({"sweep": {"train": {"config": ["config/a.py", "~/b.py"]}}})
    assert list(found.runs) == ["configa", "configb"]
    assert found.of_run("configa").train.config == "config/a.py"


def test_values_that_are_no_plain_names_give_plain_names():
    sweep = {"train": {"options": {"model.scales": [[1, 2], "a/../b"]}, "ema": [None]}}
    runs = read_settings({"sweep": sweep}).runs
    assert list(runs) == ["emanull_scales-1-2-", "emanull_scalesa-..-b"]


def finish(folder, run):
    for name in COMPARED:
        file = folder / home_of(run) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def test_the_default_run_is_compared_unless_others_alone_were_made(tmp_path):
    assert runs_to_compare([None], tmp_path) == ([None], [])
    finish(tmp_path, "b")
    assert runs_to_compare([None], tmp_path) == ([], ["b"])
    assert runs_to_compare(["a"], tmp_path) == (["a"], ["b"])
    finish(tmp_path, None)
    assert runs_to_compare([None], tmp_path) == ([None], ["b"])
    assert runs_to_compare(["b"], tmp_path) == (["b"], [None])
