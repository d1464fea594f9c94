from dataclasses import replace

import pandas as pd
import pytest
from mmengine.config import Config

from epic100.base.errors import EpicError
from epic100.segments.segment_list import COLUMNS
from epic100.training.device import Placement
from epic100.training.plan import check_validation, epoch_seconds, make_plan
from epic100.training.trial import Trial

PAIRS = [(0, 0, 3), (0, 1, 1), (2, 1, 0)]
TRIAL = Trial(
    step_seconds=0.5,
    load_seconds=0.02,
    parameters=3_794_322,
    memory=None,
    shape=(1, 3, 13, 160, 160),
    weights=None,
    off=["compile is off: no compiler"],
)


def table(*labels):
    rows = [("P01/P01_01.MP4", 0, 50, verb, noun, f"P01_01_{i}") for i, (verb, noun) in
            enumerate(labels)]  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def config(**changes):
    made = Config({
        "model": {"type": "Recognizer3D", "backbone": {"type": "X3D"},
                  "cls_head": {"dropout_ratio": 0.5, "label_smooth_eps": 0.1}},
        "train_dataloader": {"batch_size": 2, "num_workers": 0},
        "train_cfg": {"max_epochs": 10, "val_interval": 5}, "work_dir": "work_dirs/abc",
        "optim_wrapper": {"optimizer": {"type": "SGD", "lr": 0.01}},
        "auto_scale_lr": {"enable": True, "base_batch_size": 32},
        "custom_hooks": [{"type": "AccumulateHook", "parts": 2}], "load_from": None,
    })  # fmt: skip
    made.merge_from_dict(changes)
    return made


def plan(train, val=None, made=None, processes=2):
    return make_plan(
        made or config(), train=train, val=val, pairs=PAIRS, classes=(3, 2),
        placement=Placement("cpu", processes), trial=TRIAL, off=["bf16 is off"],
    )  # fmt: skip


def test_the_table_says_data_model_schedule_device_and_time():
    rows = dict(plan(table((0, 0), (0, 0), (0, 1), (0, 0), (2, 1))).rows)
    assert rows["data"] == "5 segments of 1 videos, 3 pairs"
    assert rows["model"] == (
        "Recognizer3D, backbone X3D, 3.79 M parameters; 13 frames of 160 x 160"
    )
    assert rows["schedule"] == (
        "10 epochs of 2 steps; batch 4 = 2 processes x 2 parts x 1; SGD, lr 0.00125 = 0.01 x 4/32"
    )
    assert rows["device"].startswith("CPU, 2 x ")
    assert rows["head"] == ("dropout 0.5, label smoothing 0.1, no logit adjustment, no average")
    # Each of 10 epochs: 2 steps of 0.5 s and 2 segments of 0.02 s, loaded in between.
    assert rows["time"].startswith("about 11 s (0.50 s a step")


def test_what_cannot_be_learned_or_was_switched_off_is_warned_of():
    text = plan(table((0, 0), (0, 1)), table((0, 0), (1, 1), (1, 1))).text()
    for words in (
        "warning: 1 of 3 pairs have no segment to learn from, verb 2 with noun 1 first",
        "warning: 2 of 3 verbs have no segment to learn from and are never predicted",
        "warning: 2 of 3 val segments (66.7 %) are of 1 pairs that train never has",
        "warning: bf16 is off",
        "warning: compile is off: no compiler",
        "warning: a batch of 4 is larger than the data: 2 segments",
    ):
        assert words in text
    assert "nouns have no segment" not in text


def test_a_learning_rate_of_0_and_an_empty_val_split_are_warned_of():
    made = config(**{"optim_wrapper.optimizer.lr": 0.0})
    said = plan(table((0, 0)), made=made).warnings
    assert "the learning rate is 0: nothing will be learned" in said
    assert "no segment to validate on: training runs without validation" in said


def with_val(tmp_path, text):
    (tmp_path / "val.txt").write_text(text)
    return config(
        val_dataloader={"dataset": {"ann_file": str(tmp_path / "val.txt")}},
        val_cfg={"type": "ValLoop"},
        val_evaluator={"type": "EpicPairMetric"},
    )


def test_an_empty_val_list_switches_validation_off(tmp_path):
    made = with_val(tmp_path, "")
    assert check_validation(made) is None
    assert made.val_dataloader is made.val_cfg is made.val_evaluator is None


def test_a_val_list_without_labels_is_one_line_that_names_the_first(tmp_path):
    made = with_val(tmp_path, "a.MP4 0 9 1 1 a_0\na.MP4 0 9 -1 -1 a_1\na.MP4 0 9 -1 -1 a_2\n")
    with pytest.raises(EpicError, match=r"val.txt: a_1 and 1 more segments have no verb or noun"):
        check_validation(made)


@pytest.mark.parametrize("device, load_seconds, seconds", [
    ("cuda", 0.1, 5.0),  # 10 steps of 0.5 s; 2 segments of 0.1 s each are loaded meanwhile
    ("cuda", 2.0, 40.0),  # the loader is the limit
    ("cpu", 0.1, 7.0),  # one after the other
])  # fmt: skip
def test_the_estimate_lets_workers_load_while_a_gpu_computes(device, load_seconds, seconds):
    made = config(**{"train_dataloader.num_workers": 1})
    trial = replace(TRIAL, load_seconds=load_seconds)
    assert epoch_seconds(made, Placement(device, 1), trial, 10, 0) == pytest.approx(seconds)
