"""How a machine trains a config, and what is off."""

import pytest
from mmengine.config import Config

from epic100.base.errors import EpicError
from epic100.settings import TrainSettings
from epic100.training import plan as plan_module
from epic100.training.device import Placement
from epic100.training.plan import Off, batches_ahead, plan_run

LIST = "a.MP4 0 9 1 1 a_0\na.MP4 9 18 1 1 a_1\n"


@pytest.fixture
def plan(tmp_path):
    """A plan for settings, some processes and a val list."""

    def planned(processes=1, val=LIST, device="cpu", sync_bn=None, nodes=1, **settings):
        (tmp_path / "val.txt").write_text(val)
        loader = {"batch_size": 8, "dataset": {"ann_file": str(tmp_path / "val.txt")}}
        config = Config({
            "train_dataloader": loader, "val_dataloader": loader, "test_dataloader": loader,
            "val_cfg": {"type": "ValLoop"}, "val_evaluator": {"type": "EpicPairMetric"},
            "optim_wrapper": {"type": "OptimWrapper"},
            "model": {"type": "ChannelsLastRecognizer3D"}, "custom_hooks": [{"type": "A"}],
            "sync_bn": sync_bn,
        })  # fmt: skip
        before = config.to_dict()
        made = plan_run(
            config, TrainSettings(config="x.py", **settings), Placement(device, processes, nodes),
            work_dir="w", classes=(4, 5),
        )  # fmt: skip
        assert config.to_dict() == before
        return made

    return planned


def test_the_batch_is_shared_among_processes_and_parts_and_is_still_the_same_batch(plan):
    made = plan(processes=2, accumulate=2)
    config = made.config
    assert config.train_dataloader.batch_size == made.share == 4  # the hook splits it again
    assert config.val_dataloader.batch_size == config.test_dataloader.batch_size == 4
    assert made.batch == 8 and made.parts == 2
    assert config.launcher == "pytorch" and config.val_evaluator.collect_device == "gpu"
    with pytest.raises(EpicError, match="^train.batch_size is 8; expected a multiple of 6"):
        plan(processes=2, accumulate=3)
    with pytest.raises(EpicError, match=r"of 6 \(train.nodes 2 x train.gpus 3 x train.acc"):
        plan(processes=6, nodes=2)


def test_hooks_that_are_added_come_last_in_a_fixed_order(plan):
    made = plan(accumulate=2, compile=True)
    assert [hook["type"] for hook in made.config.custom_hooks] == [
        "A", "CompileHook", "AccumulateHook",
    ]  # fmt: skip
    less = made.without_compile("no compiler")
    assert [hook["type"] for hook in less.config.custom_hooks] == ["A", "AccumulateHook"]
    assert not less.compiled and less.off == (Off("compile", "no compiler"),)
    assert made.compiled and len(made.config.custom_hooks) == 3


def test_autocast_is_off_on_a_cpu_and_the_plan_lists_it(plan):
    made = plan(precision="bf16")
    assert made.config.optim_wrapper.type == "OptimWrapper" and made.dtype == "float32"
    assert [str(off) for off in made.off] == [
        "precision bf16 is off: MMEngine's autocast needs a GPU; fp32 instead"
    ]


def test_statistics_over_processes_are_off_on_a_cpu_and_the_plan_lists_it(plan):
    """torch's SyncBatchNorm refuses tensors on a CPU."""
    made = plan(processes=2, sync_bn="torch", bn="sync")
    assert made.config.sync_bn is None and made.bn == "local"
    assert [off.what for off in made.off] == ["bn sync"]
    on_gpus = plan(processes=2, device="cuda", sync_bn="torch", bn="sync")
    assert on_gpus.config.sync_bn == "torch" and on_gpus.bn == "sync" and on_gpus.off == ()


def test_on_a_gpu_workers_fill_the_cores_and_prepare_a_bounded_number_of_clips(plan, monkeypatch):
    monkeypatch.setattr(plan_module, "usable_cores", lambda: 36)
    loader = plan(device="cuda", processes=2).config.train_dataloader
    assert (loader.num_workers, loader.persistent_workers, loader.prefetch_factor) == (17, True, 2)
    assert loader.pin_memory and loader.collate_fn.type == "collate_in_one"
    loader = plan(device="cuda", processes=4, nodes=2).config.train_dataloader
    assert loader.num_workers == 17  # two of the four processes are on this node
    assert plan(device="cuda", workers=3).config.train_dataloader.get("num_workers") is None
    asked = {"train_dataloader.num_workers": 5}
    assert plan(device="cuda", options=asked).config.val_dataloader.num_workers == 35
    assert plan(device="cuda", options=asked).config.train_dataloader.get("num_workers") is None
    assert plan().config.train_dataloader.get("num_workers") is None  # on a CPU as the config says
    assert batches_ahead(17, 32) == 2 and batches_ahead(17, 128) == 1  # 2 GB


def test_batch_norm_over_processes_wants_gpus_and_local_statistics_are_pooled(plan):
    def kinds(made):
        return [hook["type"] for hook in made.config.custom_hooks]

    assert kinds(plan(processes=2)) == ["A", "PooledStatisticsHook"]
    assert kinds(plan(processes=2, bn="frozen")) == kinds(plan()) == ["A"]


def test_channels_last_can_be_switched_off(plan):
    assert plan().channels_last
    assert plan().config.model.type == "ChannelsLastRecognizer3D"
    made = plan(channels_last=False)
    assert made.config.model.type == "Recognizer3D" and not made.channels_last
    assert plan(channels_last=True, device="cuda").channels_last is True
    assert plan(device="cuda").channels_last is None  # to be measured


def test_validation_knows_the_classes_and_how_many_segments_it_takes(plan):
    made = plan()
    assert made.config.val_evaluator.num_verbs == 4 and made.config.val_evaluator.num_nouns == 5
    assert made.validated == len(made.val) == 2 and not made.off
    made.config.val_dataloader.dataset.part = 1
    assert made.validated == 1


def test_an_empty_val_list_switches_validation_off_and_the_plan_lists_it(plan, tmp_path):
    with pytest.raises(EpicError, match=r"val\.txt: no segment in it, and .*dropped\.tsv"):
        plan(val="")
    (tmp_path / "dropped.tsv").write_text("narration_id\tsplit\treason\na_0\tval\tno file\n")
    made = plan(val="")
    assert made.val is None and made.validated == 0
    assert made.config.val_dataloader is made.config.val_cfg is made.config.val_evaluator is None
    (off,) = made.off
    assert off.what == "validation" and off.why.endswith("val.txt has no segment to validate on")


def test_a_training_on_val_validates_on_nothing_and_the_plan_says_why(plan):
    (off,) = plan(split="trainval").off
    assert str(off) == (
        "validation is off: `train: split: trainval` leaves no segment to validate on"
    )


def test_a_val_list_without_labels_is_one_line_that_names_the_first(plan):
    val = "a.MP4 0 9 1 1 a_0\na.MP4 0 9 -1 -1 a_1\na.MP4 0 9 -1 -1 a_2\n"
    with pytest.raises(EpicError, match=r"val.txt: a_1 and 1 more segments have no verb or noun"):
        plan(val=val)
