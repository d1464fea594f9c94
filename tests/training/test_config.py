"""`build_config`: settings and options become keys of the MMEngine config, or are refused."""

from pathlib import Path

import mmaction
import mmengine
import pytest
from mmengine.config import Config, ConfigDict

from epic100.base.errors import EpicError
from epic100.segments.pairs import read_pairs
from epic100.training.recipe import model_config
from support.small_runs import built


def loaders(config):
    """The datasets of the three loaders."""
    return [config[f"{name}_dataloader"].dataset for name in ("train", "val", "test")]


def test_settings_reach_the_config_and_schedules_follow_the_epochs(lab):
    config = built(
        lab,
        epochs=20,
        seed=7,
        workers=3,
        batch_size=4,
        checkpoint={"keep": 4},
        validate={"every": 3, "segments": 2},
        options={"optim_wrapper.optimizer.lr": 0.5},
    )
    assert config.train_cfg.max_epochs == 20
    # The warm-up does not end with the training, so it stays as it is.
    assert config.param_scheduler[0]["end"] == 1
    assert config.param_scheduler[1]["end"] == 20 and config.param_scheduler[1]["T_max"] == 19
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        assert loader.batch_size == 4 and loader.num_workers == 3 and loader.persistent_workers
        assert loader.dataset.seed == 7
    assert config.randomness["seed"] == 7
    assert config.optim_wrapper.optimizer.lr == 0.5
    assert config.train_dataloader.dataset.ann_file == f"{lab.results}/clean/train.txt"
    for section in (*loaders(config), config.val_evaluator, config.model.cls_head):
        assert section.pairs == f"{lab.results}/clean/pairs.tsv"
    for dataset in loaders(config):
        assert (dataset.data_root, dataset.index_dir) == (lab.root, f"{lab.results}/scan")
    assert config.train_cfg.val_interval == 3 and config.val_dataloader.dataset.part == 2
    hook = config.default_hooks.checkpoint
    assert (hook.seconds, hook.keep, hook.go_on) == (600, 4, True)


def test_each_switch_of_the_head_reaches_the_config_and_none_changes_nothing(lab):
    plain = built(lab)
    assert [hook.type for hook in plain.custom_hooks] == ["SampleSeedHook", "SyncBuffersHook"]
    assert plain.model.cls_head.head.dropout_ratio == 0 and plain.model.cls_head.heads == "pair"
    config = built(lab, label_smoothing=0.1, dropout=0.2, ema=0.99, heads="verb_noun")
    head = config.model.cls_head
    assert head.head.label_smooth_eps == 0.1 and head.head.dropout_ratio == 0.2
    assert head.heads == config.val_evaluator.heads == config.test_evaluator.heads == "verb_noun"
    assert [hook.type for hook in config.custom_hooks[2:]] == ["EMAHook"]
    assert config.custom_hooks[2].momentum == pytest.approx(0.01)


@pytest.mark.parametrize(
    "config, step, heads",
    [
        ("config/x3d_s_epic_rgb_segments.py", {"type": "UniformSample", "clip_len": 13}, "both"),
        (
            "config/lab_13x6.py",
            {"type": "SampleFrames", "clip_len": 13, "frame_interval": 6},
            "pair",
        ),
        (
            "config/x3d_demo.py",
            {"type": "SampleFrames", "clip_len": 13, "frame_interval": 3},
            "both",
        ),
        ("config/zoo/x3d_m.py", {"type": "SampleFrames", "clip_len": 16, "target_fps": 30}, "both"),
    ],
)
def test_the_file_says_how_frames_are_taken_and_which_heads_learn(lab, config, step, heads):
    recipe, made = Config.fromfile(config), built(lab, config=config)
    for either in (recipe, made):
        assert heads == either.model.cls_head.heads == either.val_evaluator.heads
        for dataset in loaders(either):
            _, sampling, *_ = dataset.pipeline
            assert {**sampling, **step} == sampling
    # The settings change no step of the pipelines.
    for before, after in zip(loaders(recipe), loaders(made), strict=True):
        assert before.pipeline == after.pipeline


def test_a_head_of_mmaction2_alone_gets_as_many_outputs_as_there_are_pairs(lab, tmp_path):
    own = tmp_path / "own.py"
    own.write_text(
        f"_base_ = [{str(Path('config/x3d_s_epic_rgb_segments.py').absolute())!r}]\n"
        "model = dict(\n"
        "    cls_head=dict(_delete_=True, type='TPNHead', num_classes=400, in_channels=432),\n"
        "    neck=dict(type='TPN', aux_head_cfg=dict(out_channels=400)),\n"
        "    data_preprocessor=dict(blending=dict(type='RandomBatchAugment', augments=[\n"
        "        dict(type='MixupBlending', num_classes=400)])),\n"
        "    test_cfg=dict(fcn_test=True))\n"
    )
    config = built(lab, config=str(own))
    pairs = len(read_pairs(f"{lab.results}/clean/pairs.tsv"))
    # The config of a model file has numbers in place of the file of pairs.
    model = ConfigDict(model_config(config)).model
    assert model.cls_head == {"type": "TPNHead", "num_classes": pairs, "in_channels": 432}
    assert config.val_evaluator.heads == "pair" and config.model.cls_head.heads == "pair"
    assert model.neck.aux_head_cfg.out_channels == pairs
    assert model.data_preprocessor.blending.augments[0].num_classes == pairs
    assert model.test_cfg == {"fcn_test": False}


def test_a_config_of_mmaction2_is_one_line_with_the_lines_to_change(lab):
    stock = Path(mmaction.__file__).parent / ".mim/configs/recognition/tsn"
    stock /= "tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb.py"
    with pytest.raises(EpicError) as caught:
        built(lab, config=str(stock))
    text = str(caught.value)
    for line in (
        "train_cfg.type = 'ResumableEpochLoop'",
        "test_evaluator.type = 'EpicPairMetric'",
        "default_hooks.checkpoint.type = 'SafeCheckpointHook'",
        "val_dataloader.dataset.type = 'EpicSegmentVideoDataset'",
        "train_dataloader.dataset.pipeline.0.type = 'OpenSegment'",
        "test_dataloader.dataset.pipeline.2.type = 'DecodeSegment'",
        "custom_hooks = [dict(type='SampleSeedHook')]",
        "a config on top of config/x3d_s_epic",
    ):
        assert line in text
    assert text.startswith(f"{stock}: ") and "\n" not in text and "model" not in text.split("; ")[0]


@pytest.mark.parametrize(
    "key, words",
    [
        ("optim_wraper.optimizer.lr", "nothing reads optim_wraper; did you mean optim_wrapper?"),
        ("optim_wrapper.optimizer.learning_rate", "nothing reads optim_wrapper.optimizer.learning"),
        ("batch_size", "nothing reads batch_size; did you mean train_dataloader.batch_size?"),
        ("model.cls_head.dropout_ratio", "did you mean model.cls_head.head.dropout_ratio?"),
        ("model.cls_head.head.dropout_rate", "did you mean model.cls_head.head.dropout_ratio?"),
        ("model.backbone.gama_w", "did you mean model.backbone.gamma_w?"),
        ("train_dataloader.batchsize", "did you mean train_dataloader.batch_size?"),
        ("train_dataloader.dataset.pipeline.2.short_sides", "pipeline.2.short_side?"),
        ("train_dataloader.dataset.pipeline.7.size", "reads train_dataloader.dataset.pipeline.7;"),
        # A backbone of another type has this key, as a test below shows.
        ("model.backbone.depth", "nothing reads model.backbone.depth"),
        ("default_hooks.checkpoint.second", "did you mean default_hooks.checkpoint.seconds?"),
    ],
)
def test_an_option_that_nothing_reads_is_one_line_with_the_key_that_was_meant(lab, key, words):
    expected = f"^config: .* sets {key}, but nothing .*; expected a dotted key"
    with pytest.raises(EpicError, match=expected) as caught:
        built(lab, options={key: 1})
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "key, value, chosen",
    [
        # The config lacks these keys, but their classes take them.
        *(
            (key, 1, {})
            for key in (
                # The base class takes it.
                "model.cls_head.head.topk",
                "optim_wrapper.optimizer.betas",
                "optim_wrapper.constructor",
                "randomness.deterministic",
                "train_dataloader.prefetch_factor",
                "default_hooks.mine",
                "env_cfg.cudnn_benchmark",
                "find_unused_parameters",
                "train_cfg.val_begin",
                "train_dataloader.dataset.pipeline.1.target_fps",
                "train_dataloader.dataset.clip_seconds",
            )
        ),
        ("train_cfg.max_epochs", 9, {"epochs": 3}),
        ("train_dataloader.num_workers", 1, {"workers": 2}),
        ("train_dataloader.persistent_workers", False, {"workers": 2}),
        ("randomness.seed", 8, {"seed": 1}),
        ("model.cls_head.head.dropout_ratio", 0.1, {"dropout": 0.5}),
        (
            "train_dataloader.dataset.pipeline.4.scale",
            (32, 32),
            {"config": "config/zoo/tsn_r50.py"},
        ),
    ],
)
def test_an_option_is_set_over_any_other_key_and_as_a_tuple_where_the_config_has_one(
    lab, key, value, chosen
):
    # YAML has lists, but no tuples.
    option = list(value) if isinstance(value, tuple) else value
    node = built(lab, **chosen, options={key: option})
    for name in key.split("."):
        node = node[int(name)] if name.isdigit() else node[name]
    assert node == value


def test_options_that_do_not_go_with_the_config_are_one_line(lab):
    with pytest.raises(EpicError, match="^config: `train: options:` .*paramwise_cfg.* is of type"):
        built(lab, options={"optim_wrapper.paramwise_cfg.norm_decay_mult": 0.0})


def test_accumulation_over_steps_is_refused_with_the_key_that_splits_a_batch(lab):
    with pytest.raises(EpicError, match="accumulative_counts` is set; expected `train: accum"):
        built(lab, options={"optim_wrapper.accumulative_counts": 4})


def test_a_type_among_the_options_says_which_keys_go_with_it(lab):
    chosen = {"model.backbone.type": "ResNet3dSlowOnly", "model.backbone.depth": 18}
    # The backbone of the config itself has no `depth`.
    assert built(lab, options=chosen).model.backbone.depth == 18


def test_a_config_is_made_twice_alike_and_leaves_the_settings_as_they_were(lab):
    optimizer = {"_delete_": True, "type": "SGD", "lr": 0.05}
    chosen = {"optim_wrapper.optimizer": optimizer}
    first, second = (built(lab, options=chosen).to_dict() for _ in range(2))
    assert first == second and optimizer["_delete_"]
    assert first["optim_wrapper"]["optimizer"] == {"type": "SGD", "lr": 0.05}


def test_a_config_becomes_text_without_a_formatter_which_took_seconds_of_each_training(
    lab, monkeypatch
):
    monkeypatch.setattr(mmengine.config.config, "FormatCode", None)
    config = built(lab)
    assert Config.fromstring(config.pretty_text, ".py").to_dict() == config.to_dict()


@pytest.mark.parametrize(
    "text, words",
    [
        (
            'custom_imports = dict(imports=["no_such_module"], allow_failed_imports=False)\n',
            r"cannot be read \(ModuleNotFoundError: No module named 'no_such_module'\); see ",
        ),
        ("epochs = (\n", r"cannot be read \(SyntaxError: "),
        ('_base_ = ["none.py"]\n', r"cannot be read \(FileNotFoundError: "),
    ],
)
def test_a_config_that_cannot_be_read_or_is_not_there_is_one_line_with_the_cause(
    lab, tmp_path, text, words
):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(EpicError, match=rf"^{path}: this MMEngine config {words}") as caught:
        built(lab, config=str(path))
    assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(EpicError, match=rf"{path}: no such MMEngine config"):
        built(lab, config=str(path))
