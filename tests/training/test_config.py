"""Settings in, MMEngine config out."""

import os

import pytest
from mmengine.config import Config

from epic100.base.errors import EpicError
from epic100.settings import CheckpointSettings, TrainSettings, ValidateSettings
from epic100.training.config import schedule_for
from support.small_runs import built


def test_a_section_of_the_config_becomes_typed_settings_and_back():
    section = {"config": "a.py", "checkpoint": {"keep": 3}, "validate": {"every": 2}, "ema": 0.9}
    made = TrainSettings.model_validate(section)
    assert made.checkpoint == CheckpointSettings(keep=3)
    assert made.validation == ValidateSettings(every=2)
    assert TrainSettings.model_validate(made.model_dump(by_alias=True)) == made


def test_settings_reach_the_config_and_schedules_follow_the_epochs(lab):
    config = built(
        lab, epochs=20, target_fps=30, seed=7, workers=3, batch_size=4,
        checkpoint={"keep": 4}, validate={"every": 3, "segments": 2},
        options={"optim_wrapper.optimizer.lr": 0.5},
    )  # fmt: skip
    assert config.train_cfg.max_epochs == 20
    assert config.param_scheduler[1]["end"] == 20 and config.param_scheduler[1]["T_max"] == 19
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        steps = {step["type"]: step for step in loader.dataset.pipeline}
        assert steps["SampleFrames"]["target_fps"] == 30
        assert loader.batch_size == 4 and loader.num_workers == 3 and loader.persistent_workers
        assert loader.dataset.seed == 7
    assert config.randomness["seed"] == 7
    assert config.optim_wrapper.optimizer.lr == 0.5
    assert config.train_dataloader.dataset.ann_file == f"{lab.results}/clean/train.txt"
    assert config.train_cfg.val_interval == 3 and config.val_dataloader.dataset.part == 2
    hook = config.default_hooks.checkpoint
    assert (hook.seconds, hook.keep, hook.go_on) == (600, 4, True)


def test_each_switch_of_the_head_reaches_the_config_and_none_changes_nothing(lab):
    plain = built(lab)
    assert [hook.type for hook in plain.custom_hooks] == ["SampleSeedHook", "SyncBuffersHook"]
    assert plain.model.cls_head.dropout_ratio == 0 and "loss_cls" not in plain.model.cls_head
    chosen = {"label_smoothing": 0.1, "dropout": 0.2, "logit_adjustment": 1.0, "ema": 0.99}
    config = built(lab, **chosen)
    head = config.model.cls_head
    assert head.label_smooth_eps == 0.1 and head.dropout_ratio == 0.2
    pairs = f"{lab.results}/clean/pairs.tsv"
    assert head.loss_cls == {"type": "LogitAdjustedLoss", "pairs": pairs, "tau": 1.0}
    assert [hook.type for hook in config.custom_hooks[2:]] == ["EMAHook"]
    assert config.custom_hooks[2].momentum == pytest.approx(0.01)


def test_options_win_over_every_other_key(lab):
    chosen = {"epochs": 3, "workers": 2, "seed": 1, "dropout": 0.5}
    options = {"train_cfg.max_epochs": 9, "train_dataloader.num_workers": 1,
               "train_dataloader.persistent_workers": False, "randomness.seed": 8,
               "model.cls_head.dropout_ratio": 0.1}  # fmt: skip
    config = built(lab, **chosen, options=options)
    assert config.train_cfg.max_epochs == 9 and config.randomness.seed == 8
    assert config.train_dataloader.num_workers == 1
    assert not config.train_dataloader.persistent_workers
    assert config.model.cls_head.dropout_ratio == 0.1


def test_a_config_is_made_twice_alike_and_leaves_settings_and_environment_as_they_were(
    lab, monkeypatch
):
    monkeypatch.setenv("EPIC100_RESULTS", "mine")
    monkeypatch.delenv("EPIC100_SPLIT", raising=False)
    optimizer = {"_delete_": True, "type": "SGD", "lr": 0.05}
    chosen = {"optim_wrapper.optimizer": optimizer}
    environment = dict(os.environ)
    first, second = (built(lab, options=chosen).to_dict() for _ in range(2))
    assert first == second
    assert first["optim_wrapper"]["optimizer"] == {"type": "SGD", "lr": 0.05}
    assert optimizer["_delete_"] and dict(os.environ) == environment


def test_a_config_that_takes_no_notice_of_the_split_is_one_error(lab, tmp_path):
    config = tmp_path / "mine.py"
    config.write_text(f"train_dataloader = dict(dataset=dict(ann_file='{lab.results}/train.txt'))")
    with pytest.raises(EpicError, match=r"mine\.py: trains on train, but .* is trainval; .*_SPLIT"):
        built(lab, config=str(config), split="trainval")


def test_a_schedule_that_ends_earlier_is_left_alone():
    config = Config({"train_cfg": {"max_epochs": 8}, "param_scheduler": [{"end": 1}, {"end": 8}]})
    changes = schedule_for(config, 5)
    assert changes["train_cfg.max_epochs"] == 5
    assert [part["end"] for part in changes["param_scheduler"]] == [1, 5]
    assert [part["end"] for part in config.param_scheduler] == [1, 8]


def test_a_file_that_is_not_there_is_named(lab):
    with pytest.raises(EpicError, match="config/none.py: no such MMEngine config"):
        built(lab, config="config/none.py")


@pytest.mark.parametrize("text, words", [
    ('custom_imports = dict(imports=["no_such_module"], allow_failed_imports=False)\n',
     r"cannot be read \(ModuleNotFoundError: No module named 'no_such_module'\); see `train: conf"),
    ("epochs = (\n", r"cannot be read \(SyntaxError: "),
    ('_base_ = ["none.py"]\n', r"cannot be read \(FileNotFoundError: "),
])  # fmt: skip
def test_a_config_that_cannot_be_read_is_one_line_with_the_cause(lab, tmp_path, text, words):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(EpicError, match=rf"^{path}: this MMEngine config {words}") as caught:
        built(lab, config=str(path))
    assert "\n" not in str(caught.value)
