"""`plan_run`: how a machine trains a config, and which settings it rejects."""

import pytest
from mmengine.config import Config

import epic100.mmaction  # noqa: F401  (registers what the config names)
from epic100.base.errors import EpicError
from epic100.base.processes import Placement
from epic100.settings.training import TrainSettings
from epic100.training import plan as plan_module
from epic100.training.plan import plan_run
from epic100.training.recipe import AUTOCAST, by_key

CHANNELS_LAST = {"type": "ChannelsLastRecognizer3D"}
# The clips of a batch are mixed with each other.
MIXED = CHANNELS_LAST | {"data_preprocessor": {"blending": {"type": "MixClips"}}}
# The columns are path, first and last frame, verb, noun, narration id. A class of -1 is no label.
VAL_LIST = "a.MP4 0 9 1 1 a_0\na.MP4 9 18 1 1 a_1\n"


@pytest.fixture
def plan(tmp_path):
    """Plan a training with a batch of 8 and two val segments, on one CPU process by default."""

    def planned(
        processes=1,
        val=VAL_LIST,
        device="cpu",
        nodes=1,
        config_precision="fp32",
        most=None,
        changes=None,
        **settings,
    ):
        """Plan a training.

        Args:
            processes: Number of processes, over all nodes.
            val: Text of the val list.
            device: "cpu" or "cuda".
            nodes: Number of nodes.
            config_precision: Precision that the config states; the settings may have another.
            most: Most segments of a part that the config states; None means no limit.
            changes: Other values of the config.
            **settings: Settings of `train:`.
        """
        (tmp_path / "val.txt").write_text(val)
        loader = {"batch_size": 8, "dataset": {"ann_file": str(tmp_path / "val.txt")}}
        config = Config(
            {
                "train_dataloader": loader,
                "val_dataloader": loader,
                "test_dataloader": loader,
                "val_cfg": {"type": "PrecisionValLoop"},
                "val_evaluator": {"type": "EpicPairMetric"},
                "optim_wrapper": AUTOCAST[settings.get("precision", config_precision)],
                "most_at_once": most,
                "model": CHANNELS_LAST,
                "custom_hooks": [{"type": "OtherHook"}],
                "find_unused_parameters": True,
            }
            | (changes or {})
        )
        before = config.to_dict()
        made = plan_run(
            config,
            TrainSettings(config="x.py", **settings),
            Placement(device, processes, nodes),
            work_dir="w",
        )
        assert config.to_dict() == before, "`plan_run` must not change the config that it gets"
        return made

    return planned


@pytest.mark.parametrize(
    "chosen, segments",
    [
        # A batch of 8 is split into as few equal parts as the limit allows.
        pytest.param({"most": 3}, 2, id="parts of two"),
        pytest.param({"most": 8}, 8, id="limit of the batch's size"),
        pytest.param({"most": 64}, 8, id="limit above the batch's size"),
        pytest.param({"most": 5}, 4, id="two equal parts"),
        # Each of 4 processes has 2 segments.
        pytest.param({"most": 3, "processes": 4}, 2, id="small share of a process"),
        pytest.param({"most": 3, "accumulate": 1}, 8, id="the setting wins over the recipe"),
        # Clips can be mixed, because a part has two.
        pytest.param({"accumulate": 4, "changes": {"model": MIXED}}, 2, id="mixed clips"),
        pytest.param({}, 8, id="no limit"),
    ],
)
def test_the_recipe_or_a_setting_limits_a_part(plan, chosen, segments):
    config = plan(**chosen)
    parts = config.optim_wrapper.accumulative_counts
    assert config.train_dataloader.batch_size == segments
    assert segments * parts * chosen.get("processes", 1) == 8


@pytest.mark.parametrize(
    "chosen, words",
    [
        pytest.param(
            {"precision": "bf16"},
            "^train: precision is bf16, bn is not sync; MMEngine's autocast .*; e",
            id="precision",
        ),
        pytest.param(
            {"processes": 2, "changes": {"sync_bn": "torch"}, "bn": "sync"},
            "bn is sync; .*; expected fp32, and bn local",
            id="synced BatchNorm",
        ),
        pytest.param(
            {"processes": 2, "accumulate": 3},
            "^train.batch_size is 8; expected a multiple of 6",
            id="uneven shares",
        ),
        pytest.param(
            {"processes": 6, "nodes": 2},
            r"of 6 \(train.nodes 2 x train.gpus 3 x train.acc",
            id="uneven shares of nodes",
        ),
        pytest.param(
            {"processes": 2, "accumulate": 4, "changes": {"model": MIXED}},
            "a segment at a time, but `model.data.*lower `train: acc",
            id="nothing to mix with",
        ),
        pytest.param({"val": ""}, r"val\.txt: no segment in it, and .*dropped\.tsv", id="no val"),
        pytest.param(
            {"val": "a.MP4 0 9 1 1 a_0\na.MP4 0 9 -1 -1 a_1\na.MP4 0 9 -1 -1 a_2\n"},
            "val.txt: a_1 and 1 more segments have no verb or noun",
            id="val without labels",
        ),
    ],
)
def test_an_impossible_training_is_rejected(plan, chosen, words):
    with pytest.raises(EpicError, match=words):
        plan(**chosen)


SHARED = {"processes": 2, "accumulate": 2}
LOADED = {"device": "cuda", "options": {"train_dataloader.num_workers": 5}}
AVERAGE = {"accumulate": 4, "changes": {"custom_hooks": [{"type": "EMAHook"}]}}
# 35 workers x 2 batches x 64 segments are above the limit of 2,048 clips.
LARGE = {"device": "cuda", "changes": {"train_dataloader": {"batch_size": 64}}}
TRAINVAL = {"split": "trainval"}


@pytest.mark.parametrize(
    "chosen, key, value",
    [
        # A batch of 8 is 2 processes x 2 parts x 2 segments.
        pytest.param(SHARED, "train_dataloader.batch_size", 2, id="share of a batch"),
        pytest.param(SHARED, "val_dataloader.batch_size", 2, id="share of a val batch"),
        pytest.param(SHARED, "optim_wrapper.accumulative_counts", 2, id="parts"),
        pytest.param(SHARED, "launcher", "pytorch", id="several processes"),
        pytest.param(SHARED, "model_wrapper_cfg.device_ids", None, id="wrapper for CPUs"),
        # The config asks to find unused parameters.
        pytest.param(SHARED, "model_wrapper_cfg.find_unused_parameters", True, id="unused weights"),
        # On a GPU, MMEngine names the process's own.
        pytest.param(
            SHARED | {"device": "cuda"}, "model_wrapper_cfg.device_ids", "absent", id="wrapper"
        ),
        pytest.param(AVERAGE, "custom_hooks.0.interval", 4, id="average once a batch"),
        # The precision of a recipe is for GPUs alone.
        pytest.param(
            {"config_precision": "bf16"}, "optim_wrapper.type", "OptimWrapper", id="bf16 on a CPU"
        ),
        pytest.param(
            {"config_precision": "fp16", "device": "cuda"},
            "optim_wrapper.type",
            "AmpOptimWrapper",
            id="fp16 on a GPU",
        ),
        # Of 36 cores, one trains and the others load for a GPU, unless a number is set.
        pytest.param({"device": "cuda"}, "train_dataloader.num_workers", 35, id="a GPU"),
        pytest.param(
            {"device": "cuda", "processes": 2}, "train_dataloader.num_workers", 17, id="two GPUs"
        ),
        pytest.param(
            # Two of the four processes are on this node.
            {"device": "cuda", "processes": 4, "nodes": 2},
            "train_dataloader.num_workers",
            17,
            id="two nodes",
        ),
        pytest.param(
            {"device": "cuda", "workers": 3}, "train_dataloader.num_workers", 0, id="a setting"
        ),
        pytest.param(LOADED, "train_dataloader.num_workers", 0, id="an option"),
        pytest.param(LOADED, "val_dataloader.num_workers", 35, id="no option for it"),
        pytest.param({}, "train_dataloader.num_workers", 0, id="a CPU"),
        pytest.param({"device": "cuda"}, "train_dataloader.pin_memory", True, id="pinned memory"),
        pytest.param(
            {"device": "cuda"}, "train_dataloader.persistent_workers", True, id="workers stay"
        ),
        pytest.param({}, "train_dataloader.collate_fn.type", "collate_in_one", id="one tensor"),
        pytest.param({}, "train_dataloader.worker_init_fn.type", "ignore_signals", id="signals"),
        pytest.param({"device": "cuda"}, "train_dataloader.prefetch_factor", 2, id="ahead"),
        pytest.param(LARGE, "train_dataloader.prefetch_factor", 1, id="large batches ahead"),
        # Weights are channels-last except in float32 on a GPU, unless it is set.
        pytest.param({}, "model.type", CHANNELS_LAST["type"], id="layout on a CPU"),
        pytest.param({"channels_last": False}, "model.type", "Recognizer3D", id="set on a CPU"),
        pytest.param({"device": "cuda"}, "model.type", "Recognizer3D", id="layout on a GPU"),
        pytest.param(
            {"device": "cuda", "channels_last": True},
            "model.type",
            CHANNELS_LAST["type"],
            id="set on a GPU",
        ),
        pytest.param(
            {"device": "cuda", "precision": "fp16"},
            "model.type",
            CHANNELS_LAST["type"],
            id="layout in fp16",
        ),
        pytest.param(
            {"device": "cuda", "precision": "fp16", "channels_last": False},
            "model.type",
            "Recognizer3D",
            id="set in fp16",
        ),
        # Without segments to validate on there is no validation.
        pytest.param({"val": ""}, "val_dataloader", None, id="empty val"),
        pytest.param({"val": ""}, "val_cfg", None, id="empty val, no loop"),
        pytest.param(TRAINVAL, "val_dataloader", None, id="trainval"),
        pytest.param(TRAINVAL, "val_evaluator", None, id="trainval, no metric"),
    ],
)
def test_a_machine_trains_a_config_so(plan, tmp_path, monkeypatch, chosen, key, value):
    monkeypatch.setattr(plan_module, "usable_cores", lambda: 36)
    # The list of val may be empty if segments were dropped.
    (tmp_path / "dropped.tsv").write_text("narration_id\tsplit\treason\na_0\tval\tno file\n")
    assert by_key(plan(**chosen).to_dict()).get(key, "absent") == value
