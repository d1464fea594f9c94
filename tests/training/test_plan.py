"""`plan_run`: how a machine trains a config, and which settings it refuses."""

import pytest
from mmengine.config import Config

import epic100.mmaction  # noqa: F401  (registers what the config names)
from epic100.base.errors import EpicError
from epic100.base.processes import Placement
from epic100.settings.training import TrainSettings
from epic100.training import plan as plan_module
from epic100.training.plan import plan_run
from epic100.training.recipe import AUTOCAST

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


def test_a_batch_is_shared_among_processes_and_parts(plan):
    config = plan(processes=2, accumulate=2)
    # A batch of 8 is 2 processes x 2 parts x 2 segments.
    assert config.train_dataloader.batch_size == config.val_dataloader.batch_size == 2
    assert config.optim_wrapper.accumulative_counts == 2 and config.launcher == "pytorch"


def test_several_processes_on_cpus_get_a_wrapper_for_the_cpu(plan):
    wrapper = plan(processes=2).model_wrapper_cfg
    # The config asks to find unused parameters.
    assert wrapper.device_ids is None and wrapper.find_unused_parameters
    # On a GPU, MMEngine names the process's own.
    assert "device_ids" not in plan(processes=2, device="cuda").model_wrapper_cfg


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


def test_the_average_is_updated_once_a_batch(plan):
    hooks = [{"type": "EMAHook"}]
    assert plan(accumulate=4, changes={"custom_hooks": hooks}).custom_hooks[0].interval == 4


def test_the_precision_of_a_recipe_is_for_gpus_alone(plan):
    assert plan(config_precision="bf16").optim_wrapper.type == "OptimWrapper"
    assert plan(config_precision="fp16", device="cuda").optim_wrapper.type == "AmpOptimWrapper"


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
def test_a_training_that_this_machine_cannot_do_is_refused(plan, chosen, words):
    with pytest.raises(EpicError, match=words):
        plan(**chosen)


OWN_WORKERS = {"train_dataloader.num_workers": 5}


@pytest.mark.parametrize(
    "chosen, loader, workers",
    [
        pytest.param({"device": "cuda"}, "train", 35, id="a GPU"),
        pytest.param({"device": "cuda", "processes": 2}, "train", 17, id="two GPUs"),
        pytest.param(
            # Two of the four processes are on this node.
            {"device": "cuda", "processes": 4, "nodes": 2},
            "train",
            17,
            id="two nodes",
        ),
        pytest.param({"device": "cuda", "workers": 3}, "train", 0, id="a setting"),
        pytest.param({"device": "cuda", "options": OWN_WORKERS}, "train", 0, id="an option"),
        pytest.param({"device": "cuda", "options": OWN_WORKERS}, "val", 35, id="no option for it"),
        pytest.param({}, "train", 0, id="a CPU"),
    ],
)
def test_one_core_trains_and_the_others_load_for_a_gpu_unless_a_number_is_set(
    plan, monkeypatch, chosen, loader, workers
):
    monkeypatch.setattr(plan_module, "usable_cores", lambda: 36)
    assert plan(**chosen)[f"{loader}_dataloader"].num_workers == workers


def test_a_gpu_gets_its_batches_through_pinned_memory_from_workers_that_stay(plan, monkeypatch):
    monkeypatch.setattr(plan_module, "usable_cores", lambda: 36)
    loader = plan(device="cuda").train_dataloader
    assert loader.pin_memory and loader.persistent_workers
    assert loader.collate_fn.type == "collate_in_one"
    # 35 workers x 2 batches x 8 segments are below the limit of 2,048 clips.
    assert loader.prefetch_factor == 2
    # 35 workers x 2 batches x 64 segments are above it.
    large = {"batch_size": 64, "dataset": loader.dataset}
    large = plan(device="cuda", changes={"train_dataloader": large}).train_dataloader
    assert large.prefetch_factor == 1


@pytest.mark.parametrize(
    "device, precision, channels_last, model_type",
    [
        ("cpu", "fp32", None, "ChannelsLastRecognizer3D"),
        ("cpu", "fp32", False, "Recognizer3D"),
        ("cuda", "fp32", None, "Recognizer3D"),
        ("cuda", "fp32", True, "ChannelsLastRecognizer3D"),
        ("cuda", "fp16", None, "ChannelsLastRecognizer3D"),
        ("cuda", "fp16", False, "Recognizer3D"),
    ],
)
def test_weights_lie_channels_last_except_in_float32_on_a_gpu_unless_it_is_set(
    plan, device, precision, channels_last, model_type
):
    made = plan(device=device, precision=precision, channels_last=channels_last)
    assert made.model.type == model_type


@pytest.mark.parametrize("chosen", [{"val": ""}, {"split": "trainval"}], ids=str)
def test_without_segments_to_validate_on_there_is_no_validation(plan, tmp_path, chosen):
    # A list may be empty if segments were dropped.
    (tmp_path / "dropped.tsv").write_text("narration_id\tsplit\treason\na_0\tval\tno file\n")
    made = plan(**chosen)
    assert made.val_dataloader is made.val_cfg is made.val_evaluator is None
