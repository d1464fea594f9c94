"""`plan_run`: how a machine trains a config, and which settings it refuses."""

import pytest
from mmengine.config import Config

import epic100.mmaction  # noqa: F401  (registers what the config names)
from epic100.base.errors import EpicError
from epic100.base.gpu import Gpus
from epic100.settings import TrainSettings
from epic100.training import plan as plan_module
from epic100.training.launch import launch
from epic100.training.plan import Placement, batches_ahead, choose_device, plan_run
from epic100.training.recipe import AUTOCAST
from support.small_runs import settings

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
            most: Largest micro-batch that the config states; None means none.
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
                "val_cfg": {"type": "ClipValLoop"},
                "val_evaluator": {"type": "EpicPairMetric"},
                "optim_wrapper": AUTOCAST[settings.get("precision", config_precision)],
                "default_hooks": {"accumulate": {"most": most}} if most else {},
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
    "device, gpus, gpus_there, expected",
    [
        ("auto", None, 0, Placement("cpu", processes=1)),
        ("auto", None, 4, Placement("cuda", processes=1)),
        ("auto", 0, 4, Placement("cpu", processes=1)),
        ("auto", 2, 4, Placement("cuda", processes=2)),
        ("cpu", None, 4, Placement("cpu", processes=1)),
        ("cpu", 2, 0, Placement("cpu", processes=2)),
    ],
)
def test_the_settings_device_and_gpus_choose_where_to_train(device, gpus, gpus_there, expected):
    found = Gpus(gpus_there, why_not=lambda: None)
    assert choose_device(device, gpus, found) == expected


def test_a_batch_is_shared_among_processes_and_micro_batches(plan):
    made = plan(processes=2, accumulate=2)
    config = made.config
    # A batch of 8 is 2 processes x 2 micro-batches x 2 segments.
    assert config.train_dataloader.batch_size == made.batch_per_process == 4
    assert config.val_dataloader.batch_size == config.test_dataloader.batch_size == 4
    assert made.batch == 8 and made.micro_batch == config.default_hooks.accumulate.most == 2
    assert config.launcher == "pytorch" and config.val_evaluator.collect_device == "gpu"


def test_several_processes_on_cpus_get_a_wrapper_for_the_cpu(plan):
    wrapper = plan(processes=2).config.model_wrapper_cfg
    # The config asks to find unused parameters.
    assert wrapper.device_ids is None and wrapper.find_unused_parameters
    # On GPUs, MMEngine uses its own wrapper.
    assert "model_wrapper_cfg" not in plan(processes=2, device="cuda").config


@pytest.mark.parametrize(
    "chosen, micro_batch",
    [
        # A batch of 8 is split into as few equal micro-batches as `most` allows: 3 + 3 + 2.
        pytest.param({"most": 3}, 3, id="three micro-batches"),
        pytest.param({"most": 8}, 8, id="limit of the batch's size"),
        pytest.param({"most": 64}, 8, id="limit above the batch's size"),
        # Two micro-batches are needed, so each has 4.
        pytest.param({"most": 5}, 4, id="two equal micro-batches"),
        # Each of 4 processes has 2 segments.
        pytest.param({"most": 3, "processes": 4}, 2, id="small share of a process"),
        pytest.param({"most": 3, "accumulate": 1}, 8, id="the setting wins over the recipe"),
        # Clips can be mixed, because a micro-batch has two.
        pytest.param({"accumulate": 4, "changes": {"model": MIXED}}, 2, id="mixed clips"),
        pytest.param({}, 8, id="no limit"),
    ],
)
def test_the_recipe_or_the_settings_limit_the_size_of_micro_batches(plan, chosen, micro_batch):
    made = plan(**chosen)
    assert made.micro_batch == micro_batch and made.batch == 8
    hook = made.config.get("default_hooks", {}).get("accumulate")
    assert hook == ({"type": "AccumulateHook", "most": micro_batch} if chosen else None)


def test_the_precision_of_a_recipe_is_for_gpus_alone(plan):
    made = plan(config_precision="bf16")
    assert made.config.optim_wrapper == AUTOCAST["fp32"] and made.precision == "bf16"
    assert plan(config_precision="fp16", device="cuda").config.optim_wrapper == AUTOCAST["fp16"]


def test_several_nodes_without_a_cluster_are_refused(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(EpicError, match=r"^train\.nodes is 2, but this is no job of a cluster"):
        launch(settings(nodes=2))


@pytest.mark.parametrize(
    "chosen, words",
    [
        pytest.param(
            {"precision": "bf16"},
            "^train: precision is bf16, but MMEngine's autocast needs a GPU .*; e",
            id="precision",
        ),
        pytest.param(
            {"processes": 2, "changes": {"sync_bn": "torch"}, "bn": "sync"},
            "^train: bn is sync, .*; expected local",
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
        pytest.param({"device": "cuda", "workers": 3}, "train", None, id="a setting"),
        pytest.param({"device": "cuda", "options": OWN_WORKERS}, "train", None, id="an option"),
        pytest.param({"device": "cuda", "options": OWN_WORKERS}, "val", 35, id="no option for it"),
        pytest.param({}, "train", None, id="a CPU"),
    ],
)
def test_one_core_trains_and_the_others_load_for_a_gpu_unless_a_number_is_set(
    plan, monkeypatch, chosen, loader, workers
):
    """None means that the plan leaves the number to the config, which has none here."""
    monkeypatch.setattr(plan_module, "usable_cores", lambda: 36)
    assert plan(**chosen).config[f"{loader}_dataloader"].get("num_workers") == workers


def test_a_gpu_gets_its_batches_through_pinned_memory_from_workers_that_stay(plan, monkeypatch):
    monkeypatch.setattr(plan_module, "usable_cores", lambda: 36)
    loader = plan(device="cuda").config.train_dataloader
    assert loader.pin_memory and loader.persistent_workers
    assert loader.collate_fn.type == "collate_in_one"
    # 35 workers x 2 batches x 8 segments are below the limit of 2,048 clips.
    assert loader.prefetch_factor == 2
    # 17 workers x 2 batches x 128 segments are above it.
    assert batches_ahead(workers=17, batch_size=128) == 1


@pytest.mark.parametrize(
    "optimizer, device, fused",
    [
        ("AdamW", "cuda", True),
        ("AdamW", "cpu", None),
        # Torch has no fused step of Rprop.
        ("Rprop", "cuda", None),
    ],
)
def test_a_gpu_does_the_optimizer_s_step_in_one_kernel_if_torch_can(plan, optimizer, device, fused):
    wrapper = {"type": "OptimWrapper", "optimizer": {"type": optimizer, "lr": 0.1}}
    made = plan(device=device, changes={"optim_wrapper": wrapper})
    assert made.config.optim_wrapper.optimizer.get("fused") is fused


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
    assert made.config.model.type == model_type


def test_a_plan_has_the_number_of_segments_of_a_validation(plan):
    made = plan()
    assert made.validated == len(made.val) == 2 and made.no_val == ""
    made.config.val_dataloader.dataset.part = 1
    assert made.validated == 1


@pytest.mark.parametrize(
    "chosen, words",
    [
        pytest.param(
            {"val": ""}, "the list of val has no segment to validate on", id="an empty list"
        ),
        pytest.param(
            {"split": "trainval"},
            "`train: split: trainval` leaves no segment to validate on",
            id="training on val",
        ),
    ],
)
def test_without_segments_to_validate_on_the_plan_has_no_validation(plan, tmp_path, chosen, words):
    # A list may be empty if segments were dropped.
    (tmp_path / "dropped.tsv").write_text("narration_id\tsplit\treason\na_0\tval\tno file\n")
    made = plan(**chosen)
    assert made.no_val.endswith(words) and made.val is None and made.validated == 0
    assert made.config.val_dataloader is made.config.val_cfg is made.config.val_evaluator is None
