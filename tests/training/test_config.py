"""`build_config`: settings and options become keys of the MMEngine config, or are rejected."""

from pathlib import Path

import mmaction
import mmengine
import pytest
from mmengine.config import Config, ConfigDict

from epic100.base.errors import EpicError
from epic100.data.pairs import read_pairs
from epic100.training.recipe import model_config
from support.small_runs import built


def datasets(config):
    """List the datasets of the three loaders."""
    return [config[f"{name}_dataloader"].dataset for name in ("train", "val", "test")]


def value_at(config, key):
    """Look up a dotted key of a config."""
    for name in key.split("."):
        config = config[int(name)] if isinstance(config, list) else config[name]
    return config


@pytest.mark.parametrize(
    "section, expected",
    [
        pytest.param(
            {"epochs": 20},
            {
                "train_cfg.max_epochs": 20,
                # The warm-up of one epoch does not end with the training, so it stays as it is.
                "param_scheduler.0.end": 1,
                "param_scheduler.1.end": 20,
                "param_scheduler.1.T_max": 19,
            },
            id="epochs and schedules",
        ),
        pytest.param(
            {"seed": 7},
            {"randomness.seed": 7, "train_dataloader.dataset.seed": 7},
            id="seed",
        ),
        pytest.param(
            {"workers": 3},
            {"val_dataloader.num_workers": 3, "val_dataloader.persistent_workers": True},
            id="workers",
        ),
        pytest.param(
            {"batch_size": 4},
            {"train_dataloader.batch_size": 4, "test_dataloader.batch_size": 4},
            id="batch size",
        ),
        pytest.param(
            {"validate": {"every": 3, "segments": 2}},
            {"train_cfg.val_interval": 3, "val_dataloader.dataset.part": 2},
            id="validation",
        ),
        pytest.param(
            {"heads": "verb_noun"},
            {
                "model.cls_head.heads": "verb_noun",
                "val_evaluator.0.heads": "verb_noun",
                "test_evaluator.0.heads": "verb_noun",
            },
            id="heads",
        ),
        pytest.param(
            {"label_smoothing": 0.1, "dropout": 0.2},
            {
                "model.cls_head.head.label_smooth_eps": 0.1,
                "model.cls_head.head.dropout_ratio": 0.2,
            },
            id="smoothing and dropout",
        ),
        pytest.param(
            {"ema": 0.99},
            # The first hook is the recipe's own.
            {
                "custom_hooks.1.type": "EMAHook",
                "custom_hooks.1.momentum": pytest.approx(0.01),
            },
            id="average",
        ),
        pytest.param(
            {},
            {"model.cls_head.heads": "pair", "model.cls_head.head.dropout_ratio": 0},
            id="nothing is set",
        ),
    ],
)
def test_a_setting_becomes_keys_of_the_config(lab, section, expected):
    config = built(lab, **section)
    assert {key: value_at(config, key) for key in expected} == expected


def test_each_config_part_has_the_data_s_paths(lab):
    config = built(lab)
    assert config.train_dataloader.dataset.ann_file == f"{lab.results}/clean/train.txt"
    for part in (*datasets(config), config.val_evaluator[0], config.model.cls_head):
        assert part.pairs == f"{lab.results}/clean/pairs.tsv"
    for dataset in datasets(config):
        assert (dataset.data_root, dataset.index_dir) == (lab.root, f"{lab.results}/scan")


@pytest.mark.parametrize(
    "config, sampling, heads",
    [
        pytest.param(
            "config/x3d_s_epic_rgb_segments.py",
            {"type": "UniformSample", "clip_len": 13},
            "both",
            id="default",
        ),
        pytest.param(
            "config/lab_13x6.py",
            {"type": "SampleFrames", "clip_len": 13, "frame_interval": 6},
            "pair",
            id="lab",
        ),
        pytest.param(
            "config/x3d_demo.py",
            {"type": "SampleFrames", "clip_len": 13, "frame_interval": 3},
            "both",
            id="demo",
        ),
        pytest.param(
            "config/zoo/x3d_m.py",
            {"type": "SampleFrames", "clip_len": 16, "target_fps": 30},
            "both",
            id="X3D-M",
        ),
    ],
)
def test_without_settings_a_recipe_stays_unchanged(lab, config, sampling, heads):
    recipe, made = Config.fromfile(config), built(lab, config=config)
    assert made.model.cls_head.heads == made.val_evaluator[0].heads == heads
    for before, after in zip(datasets(recipe), datasets(made), strict=True):
        _, step, *_ = before.pipeline
        assert before.pipeline == after.pipeline and {**step, **sampling} == step


OWN_HEAD = """
_base_ = ["{base}"]
model = dict(
    cls_head=dict(_delete_=True, type="TPNHead", num_classes=400, in_channels=432),
    neck=dict(type="TPN", aux_head_cfg=dict(out_channels=400)),
    data_preprocessor=dict(blending=dict(type="RandomBatchAugment", augments=[
        dict(type="MixupBlending", num_classes=400)])),
    test_cfg=dict(fcn_test=True))
"""


def test_a_plain_head_has_one_output_per_pair(lab, tmp_path):
    own = tmp_path / "own.py"
    own.write_text(OWN_HEAD.format(base=Path("config/x3d_s_epic_rgb_segments.py").absolute()))
    config = built(lab, config=str(own))
    assert config.val_evaluator[0].heads == "pair" and config.model.cls_head.heads == "pair"
    pairs = len(read_pairs(f"{lab.results}/clean/pairs.tsv"))
    # The config of a model file has numbers in place of the file of pairs.
    model = ConfigDict(model_config(config)).model
    assert model.cls_head == {"type": "TPNHead", "num_classes": pairs, "in_channels": 432}
    assert model.neck.aux_head_cfg.out_channels == pairs
    assert model.data_preprocessor.blending.augments[0].num_classes == pairs
    assert model.test_cfg == {"fcn_test": False}


def test_an_mmaction2_config_is_rejected_with_lines(lab):
    stock = Path(mmaction.__file__).parent / ".mim/configs/recognition/tsn"
    stock /= "tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb.py"
    with pytest.raises(EpicError, match=f"^{stock}: ") as caught:
        built(lab, config=str(stock))
    text = str(caught.value)
    lines = [
        "train_cfg.type = 'ResumableTrainLoop'",
        "test_evaluator = [dict(type='EpicPairMetric', ...), ...]",
        "default_hooks.checkpoint.type = 'SaveHook'",
        "val_dataloader.dataset.type = 'EpicSegmentVideoDataset'",
        "train_dataloader.dataset.pipeline.0.type = 'OpenSegment'",
        "test_dataloader.dataset.pipeline.2.type = 'DecodeSegment'",
        "default_hooks.seeds.type = 'SampleSeedHook'",
        "a config on top of config/x3d_s_epic",
    ]
    assert [line for line in lines if line not in text] == [] and "\n" not in text
    # The model may stay as it is.
    assert "model" not in text.split("; ")[0]


@pytest.mark.parametrize(
    "key, words",
    [
        ("optim_wraper.optimizer.lr", "nothing reads optim_wraper; did you mean optim_wrapper."),
        ("batch_size", "nothing reads batch_size; did you mean train_dataloader.batch_size?"),
        ("models.models", "did you mean model.models?"),
        ("model.cls_head.head.dropout_rate", "did you mean model.cls_head.head.dropout_ratio?"),
        ("model.backbone.gama_w", "did you mean model.backbone.gamma_w?"),
        ("train_dataloader.batchsize", "did you mean train_dataloader.batch_size?"),
        ("train_dataloader.dataset.pipeline.2.short_sides", "pipeline.2.short_side?"),
        ("default_hooks.checkpoint.second", "did you mean default_hooks.checkpoint.seconds?"),
    ],
)
def test_an_unread_option_names_the_likely_key(lab, key, words):
    expected = f"^config: .* sets {key}, but nothing .*; expected a dotted key"
    with pytest.raises(EpicError, match=expected) as caught:
        built(lab, options={key: 1})
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "key, value, settings",
    [
        # These keys are not in the config, but their classes take them.
        *(
            (key, 1, {})
            for key in (
                # The base class of the head takes it.
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
def test_options_win_over_recipe_and_settings(lab, key, value, settings):
    # YAML has lists, but no tuples.
    option = list(value) if isinstance(value, tuple) else value
    assert value_at(built(lab, **settings, options={key: option}), key) == value


@pytest.mark.parametrize(
    "key, value, words",
    [
        pytest.param(
            "optim_wrapper.paramwise_cfg.norm_decay_mult",
            0.0,
            "^config: `train: options:` .*paramwise_cfg.* is of type",
            id="a dict in place of None",
        ),
        pytest.param(
            "optim_wrapper.accumulative_counts",
            4,
            "accumulative_counts` is set; expected `train: accumulate",
            id="accumulation over steps",
        ),
        pytest.param(
            "train_cfg.type",
            "EpochBasedTrainLoop",
            "expected train_cfg.type = 'ResumableTrainLoop', or a subclass",
            id="a loop that cannot resume",
        ),
        pytest.param(
            "default_hooks.seeds",
            None,
            "expected default_hooks.seeds.type = 'SampleSeedHook'",
            id="no seeds",
        ),
        pytest.param(
            "val_dataloader.dataset.type",
            "VideoDataset",
            "expected val_dataloader.dataset.type = 'EpicSegmentVideoDataset'",
            id="a data set of whole files",
        ),
    ],
)
def test_an_unsuitable_option_is_rejected(lab, key, value, words):
    with pytest.raises(EpicError, match=words):
        built(lab, options={key: value})


def test_an_option_may_depend_on_another_s_type(lab):
    chosen = {"model.backbone.type": "ResNet3dSlowOnly", "model.backbone.depth": 18}
    # The backbone of the config itself has no `depth`.
    assert built(lab, options=chosen).model.backbone.depth == 18


def test_building_a_config_changes_no_settings(lab):
    optimizer = {"_delete_": True, "type": "SGD", "lr": 0.05}
    chosen = {"optim_wrapper.optimizer": optimizer}
    first, second = built(lab, options=chosen), built(lab, options=chosen)
    assert first.to_dict() == second.to_dict() and optimizer["_delete_"]
    assert first.optim_wrapper.optimizer == {"type": "SGD", "lr": 0.05}


def test_a_config_becomes_text_without_a_formatter(lab, monkeypatch):
    """MMEngine's formatter took seconds of each training."""
    monkeypatch.setattr(mmengine.config.config, "FormatCode", None)
    config = built(lab)
    assert Config.fromstring(config.pretty_text, ".py").to_dict() == config.to_dict()


@pytest.mark.parametrize(
    "text, words",
    [
        pytest.param(
            'custom_imports = dict(imports=["no_such_module"], allow_failed_imports=False)\n',
            r"this MMEngine config cannot be read \(ModuleNotFoundError: No module named 'no_such_",
            id="no module",
        ),
        pytest.param(
            "epochs = (\n",
            r"this MMEngine config cannot be read \(SyntaxError: ",
            id="no Python",
        ),
        pytest.param(
            '_base_ = ["none.py"]\n',
            r"this MMEngine config cannot be read \(FileNotFoundError: ",
            id="no base",
        ),
        pytest.param(None, "no such MMEngine config", id="no file"),
    ],
)
def test_an_unreadable_config_is_one_line(lab, tmp_path, text, words):
    path = tmp_path / "mine.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(EpicError, match=rf"^{path}: {words}") as caught:
        built(lab, config=str(path))
    assert "\n" not in str(caught.value) and "`train: config:`" in str(caught.value)
