"""`plan_run`: how a machine trains a config, and which settings it refuses."""

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

import epic100.mmaction  # noqa: F401  (registers what the config names)
from epic100.base.errors import EpicError
from epic100.base.gpu import Gpus
from epic100.settings import TrainSettings
from epic100.training import plan as plan_module
from epic100.training.hooks import PRIORITIES
from epic100.training.launch import launch
from epic100.training.plan import Placement, batches_ahead, choose_device, plan_run
from epic100.training.recipe import AUTOCAST, build_config
from support.small_runs import settings

CHANNELS_LAST = {"type": "ChannelsLastRecognizer3D"}
# The clips of a batch are mixed with each other.
MIXED = CHANNELS_LAST | {"data_preprocessor": {"blending": {"type": "MixClips"}}}
# The lines are: path, first and last frame, verb, noun, narration id. A class of -1 is no label.
VAL_LIST = "a.MP4 0 9 1 1 a_0\na.MP4 9 18 1 1 a_1\n"


@pytest.fixture
def plan(tmp_path):
    """Plan a training for these settings, processes and val list.

    The config has a batch of 8. It states the precision `config_precision` and, with `most`, a hook
    that limits a micro-batch. The settings may change both.
    """

    def planned(
        processes=1,
        val=VAL_LIST,
        device="cpu",
        sync_bn=None,
        nodes=1,
        config_precision="fp32",
        most=None,
        model=CHANNELS_LAST,
        optimizer=None,
        **settings,
    ):
        (tmp_path / "val.txt").write_text(val)
        loader = {"batch_size": 8, "dataset": {"ann_file": str(tmp_path / "val.txt")}}
        config = Config(
            {
                "train_dataloader": loader,
                "val_dataloader": loader,
                "test_dataloader": loader,
                "val_cfg": {"type": "ClipValLoop"},
                "val_evaluator": {"type": "EpicPairMetric"},
                "optim_wrapper": AUTOCAST[settings.get("precision", config_precision)]
                | ({"optimizer": optimizer} if optimizer else {}),
                "default_hooks": {"accumulate": {"most": most}} if most else {},
                "model": model,
                "custom_hooks": [{"type": "OtherHook"}],
                "sync_bn": sync_bn,
                "find_unused_parameters": True,
            }
        )
        before = config.to_dict()
        made = plan_run(
            config,
            TrainSettings(config="x.py", **settings),
            Placement(device, processes, nodes),
            work_dir="w",
        )
        assert config.to_dict() == before
        return made

    return planned


@pytest.mark.parametrize(
    "device, gpus, visible, expected",
    [
        ("auto", None, 0, ("cpu", 1)),
        ("auto", None, 4, ("cuda", 1)),
        ("auto", 0, 4, ("cpu", 1)),
        ("auto", 2, 4, ("cuda", 2)),
        ("cpu", None, 4, ("cpu", 1)),
        ("cpu", 2, 0, ("cpu", 2)),
    ],
)
def test_a_training_goes_where_the_two_keys_say(device, gpus, visible, expected):
    assert choose_device(device, gpus, Gpus(visible, why_not=lambda: None)) == Placement(*expected)


def test_the_batch_is_shared_among_processes_and_parts_and_is_still_the_same_batch(plan):
    made = plan(processes=2, accumulate=2)
    config = made.config
    # The hook splits each share into parts.
    assert config.train_dataloader.batch_size == made.batch_per_process == 4
    assert config.val_dataloader.batch_size == config.test_dataloader.batch_size == 4
    assert made.batch == 8 and made.micro_batch == config.default_hooks.accumulate.most == 2
    assert config.launcher == "pytorch" and config.val_evaluator.collect_device == "gpu"
    wrapper = config.model_wrapper_cfg
    # The config asks to find unused parameters.
    assert wrapper.device_ids is None and wrapper.find_unused_parameters
    # On GPUs MMEngine uses its own wrapper.
    assert "model_wrapper_cfg" not in plan(processes=2, device="cuda").config
    assert plan(accumulate=4, model=MIXED).micro_batch == 2


@pytest.mark.parametrize(
    "asked, micro_batch",
    [
        ({"most": 3}, 3),
        ({"most": 8}, 8),
        ({"most": 64}, 8),
        ({"most": 5}, 4),
        ({"most": 3, "processes": 4}, 2),
        ({"most": 3, "accumulate": 1}, 8),
        ({}, 8),
    ],
)
def test_a_config_states_how_many_segments_fit_at_once_unless_parts_are_asked_for(
    plan, asked, micro_batch
):
    made = plan(**asked)
    assert made.micro_batch == micro_batch and made.batch == 8
    hook = made.config.get("default_hooks", {}).get("accumulate")
    assert hook == ({"type": "AccumulateHook", "most": micro_batch} if asked else None)


def test_what_a_config_states_to_compute_in_is_float32_on_a_cpu(plan):
    made = plan(config_precision="bf16")
    assert made.config.optim_wrapper == AUTOCAST["fp32"] and made.precision == "bf16"
    assert plan(config_precision="fp16", device="cuda").config.optim_wrapper == AUTOCAST["fp16"]


def test_several_nodes_without_slurm_are_refused(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(EpicError, match=r"^train\.nodes is 2, but this is no job of a cluster"):
        launch(settings(nodes=2))


@pytest.mark.parametrize(
    "asked, words",
    [
        (
            {"precision": "bf16"},
            "^train: precision is bf16, but MMEngine's autocast needs a GPU .*; e",
        ),
        (
            {"precision": "fp16", "gpus": 2, "processes": 2},
            "^train: precision is fp16, .* on the CPU",
        ),
        (
            {"processes": 2, "sync_bn": "torch", "bn": "sync"},
            "^train: bn is sync, .*; expected local",
        ),
        ({"processes": 2, "accumulate": 3}, "^train.batch_size is 8; expected a multiple of 6"),
        ({"processes": 6, "nodes": 2}, r"of 6 \(train.nodes 2 x train.gpus 3 x train.acc"),
        (
            {"processes": 2, "accumulate": 4, "model": MIXED},
            "a segment at a time, but `model.data.*lower `train: acc",
        ),
        ({"val": ""}, r"val\.txt: no segment in it, and .*dropped\.tsv"),
        (
            {"val": "a.MP4 0 9 1 1 a_0\na.MP4 0 9 -1 -1 a_1\na.MP4 0 9 -1 -1 a_2\n"},
            "val.txt: a_1 and 1 more segments have no verb or noun",
        ),
    ],
)
def test_what_cannot_be_done_is_one_line(plan, asked, words):
    with pytest.raises(EpicError, match=words):
        plan(**asked)


def test_on_a_gpu_workers_fill_the_cores_and_prepare_a_bounded_number_of_clips(plan, monkeypatch):
    monkeypatch.setattr(plan_module, "usable_cores", lambda: 36)
    loader = plan(device="cuda", processes=2).config.train_dataloader
    assert (loader.num_workers, loader.persistent_workers, loader.prefetch_factor) == (17, True, 2)
    assert loader.pin_memory and loader.collate_fn.type == "collate_in_one"
    loader = plan(device="cuda", processes=4, nodes=2).config.train_dataloader
    # Two of the four processes are on this node.
    assert loader.num_workers == 17
    assert plan(device="cuda", workers=3).config.train_dataloader.get("num_workers") is None
    asked = {"train_dataloader.num_workers": 5}
    assert plan(device="cuda", options=asked).config.val_dataloader.num_workers == 35
    assert plan(device="cuda", options=asked).config.train_dataloader.get("num_workers") is None
    # On a CPU the loader is as the config says.
    assert plan().config.train_dataloader.get("num_workers") is None


@pytest.mark.parametrize(
    "optimizer, device, fused",
    [
        ("AdamW", "cuda", True),
        ("AdamW", "cpu", None),
        # Torch has no such step of Rprop.
        ("Rprop", "cuda", None),
    ],
)
def test_a_gpu_does_the_optimizer_s_step_in_one_kernel_where_torch_can(
    plan, optimizer, device, fused
):
    made = plan(device=device, optimizer={"type": optimizer, "lr": 0.1}).config
    assert made.optim_wrapper.optimizer.get("fused") is fused


def test_workers_prefetch_at_most_2048_clips():
    # 2,048 clips are 2 GB at 13 frames of 160 x 160: 17 x 2 x 32 fit, 17 x 2 x 128 do not.
    assert batches_ahead(17, 32) == 2 and batches_ahead(17, 128) == 1


def test_batch_norm_over_processes_is_synced_or_frozen_as_the_setting_says(plan):
    def hook_types(made):
        return [hook["type"] for hook in made.config.custom_hooks]

    assert plan(processes=2, device="cuda", sync_bn="torch", bn="sync").bn == "sync"
    for made in (plan(processes=2), plan(processes=2, bn="frozen"), plan()):
        assert hook_types(made) == ["OtherHook"]


@pytest.mark.parametrize(
    "device, precision, chosen, channels_last",
    [
        ("cpu", "fp32", None, True),
        ("cpu", "fp32", False, False),
        ("cuda", "fp32", None, False),
        ("cuda", "fp32", True, True),
        ("cuda", "fp16", None, True),
        ("cuda", "fp16", False, False),
    ],
)
def test_the_layout_follows_device_and_precision_unless_it_is_set(
    plan, device, precision, chosen, channels_last
):
    made = plan(device=device, precision=precision, channels_last=chosen)
    model_type = "ChannelsLastRecognizer3D" if channels_last else "Recognizer3D"
    assert made.config.model.type == model_type


def test_validation_knows_how_many_segments_it_takes(plan):
    made = plan()
    assert made.validated == len(made.val) == 2 and made.no_val == ""
    made.config.val_dataloader.dataset.part = 1
    assert made.validated == 1


def test_an_empty_val_list_switches_validation_off_and_the_plan_says_why(plan, tmp_path):
    (tmp_path / "dropped.tsv").write_text("narration_id\tsplit\treason\na_0\tval\tno file\n")
    made = plan(val="")
    assert made.val is None and made.validated == 0
    assert made.config.val_dataloader is made.config.val_cfg is made.config.val_evaluator is None
    assert made.no_val.endswith("val.txt has no segment to validate on")


def test_a_training_on_val_validates_on_nothing_and_the_plan_says_why(plan):
    assert plan(split="trainval").no_val == (
        "`train: split: trainval` leaves no segment to validate on"
    )


def test_the_hooks_of_a_training_are_called_in_the_order_that_is_written_down(lab, tmp_path):
    recompute = {"type": "RecomputeHook", "blocks": "backbone.layers"}
    chosen = settings(
        options={"default_hooks.recompute": recompute},
        ema=0.9,
        accumulate=2,
        compile=True,
        bn="frozen",
    )
    config = build_config(chosen, lab.results, lab.root)
    made = plan_run(config, chosen, Placement("cpu", 1), work_dir=tmp_path).config
    names = [type(hook).__name__ for hook in Runner.from_cfg(made).hooks]
    assert names == [
        "RuntimeInfoHook",
        "SampleSeedHook",
        "FrozenBatchNormHook",
        "IterTimerHook",
        "DistSamplerSeedHook",
        "SyncBuffersHook",
        "EMAHook",
        "CompileHook",
        "AccumulateHook",
        "RecomputeHook",
        "LoggerHook",
        "ParamSchedulerHook",
        "TelemetryHook",
        "SafeCheckpointHook",
    ]
    assert list(PRIORITIES.values()) == sorted(PRIORITIES.values())
    assert [name for name in names if name in PRIORITIES] == list(PRIORITIES)
