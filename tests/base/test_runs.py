"""The names and settings of runs side by side."""

import pytest

from epic100.base.config import complete_config, layered_config
from epic100.base.errors import EpicError
from epic100.base.runs import home_of, home_pattern, sweep_runs

SHIPPED = layered_config([])
LR = "optim_wrapper.optimizer.lr"


def config(**keys):
    return complete_config(SHIPPED | keys)


def test_the_default_run_is_in_results_and_a_named_one_in_a_folder_of_its_own():
    assert home_pattern(config()) == home_of(None) == "results"
    assert home_pattern(config(run="lr.3-b")) == home_of("lr.3-b") == "results/runs/lr.3-b"
    assert sweep_runs(config()) == {}


def test_a_sweep_has_a_run_for_each_combination_and_keeps_other_settings():
    base = {"epochs": 7, "options": {"model.x": 1}}
    found = config(
        train=base, sweep={"train": {"seed": [0, 1], "options": {LR: [0.1, 1e-05, 0.5]}}}
    )
    runs = sweep_runs(found)
    assert home_pattern(found) == "results/runs/{run}"
    assert list(runs) == [f"lr{lr}_seed{seed}" for lr in ("0.1", "1e-05", "0.5") for seed in (0, 1)]
    one = runs["lr1e-05_seed1"]
    assert one["epochs"] == 7 and one["seed"] == 1 and one["options"] == {"model.x": 1, LR: 1e-05}
    assert found["train"]["options"] == {"model.x": 1}


def test_values_that_are_no_plain_names_give_plain_names():
    sweep = {"train": {"options": {"model.scales": [[1, 2], "a/../b"]}, "ema": [None]}}
    assert list(sweep_runs(config(sweep=sweep))) == ["emanull_scales-1-2-", "emanull_scalesa-..-b"]


@pytest.mark.parametrize("keys, words", [
    ({"run": "../up"}, "run is '../up'; expected pattern"),
    ({"run": ".hidden"}, "run is '.hidden'"),
    ({"run": 3}, "run is 3; expected of type"),
    ({"sweep": {"train": {"seed": 1}}}, "sweep.train.seed is 1; expected of type array"),
    ({"sweep": {"train": {"seed": []}}}, "sweep.train.seed is []"),
    ({"sweep": {"train": {"seed": [1, 1]}}}, "sweep.train.seed is [1, 1]"),
    ({"sweep": {"train": {"seed": [-1]}}}, "sweep.train.seed.0 is -1"),
    ({"sweep": {"train": {"workers": [1]}}}, "unknown key 'sweep.train.workers'"),
    ({"sweep": {"predict": {"clips": [1]}}}, "unknown key 'sweep.predict'"),
    ({"sweep": {}}, "sweep is {}"),
])  # fmt: skip
def test_a_wrong_name_or_sweep_is_an_error_of_the_config(keys, words):
    with pytest.raises(EpicError) as caught:
        config(**keys)
    assert words in str(caught.value)


@pytest.mark.parametrize("keys, words", [
    ({"sweep": {"train": {"seed": [0]}}, "run": "a"}, "`run:` and `sweep:` are both set"),
    ({"sweep": {"train": {"seed": [0]}}, "predict": {"model": "m.pth"}}, "names finished ones"),
    ({"sweep": {"train": {"options": {"a.x": ["b c", "b/c"]}}}}, "two runs with the name xb-c"),
    ({"sweep": {"train": {"options": {LR: ["1e-2"]}}}}, "'1e-2', which YAML reads as text"),
])  # fmt: skip
def test_what_the_schema_cannot_see_is_an_error_too(keys, words):
    found = config(**keys)
    with pytest.raises(EpicError) as caught:
        home_pattern(found)
        sweep_runs(found)
    assert words in str(caught.value)
