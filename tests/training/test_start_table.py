"""The table that a training shows before its first step, and the warning about a slow loader."""

import pandas as pd
import pytest
from mmengine.config import Config

from epic100.base.machine import driver_version
from epic100.segments.segment_list import COLUMNS
from epic100.training.plan import Placement, TrainingPlan
from epic100.training.report import loader_advice
from epic100.training.table import TrialResult, epoch_seconds, start_table

DENSE = {"type": "SampleFrames", "clip_len": 13, "frame_interval": 6}
# The pairs of verb and noun that train has, each with its count.
PAIRS = [(0, 0, 3), (0, 1, 1), (2, 1, 0)]


def segments(*labels):
    """Make a list of segments of one video with these (verb, noun) labels."""
    rows = [
        ("P01/P01_01.MP4", 0, 50, verb, noun, f"P01_01_{i}")
        for i, (verb, noun) in enumerate(labels)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS[:6]))


def found_by_a_check(
    val=None,
    processes=2,
    micro_batch=1,
    precision="bf16",
    is_transformer=False,
    device="cpu",
    load_seconds=0.02,
    workers=0,
    sample=DENSE,
    **changes,
):
    """Make the measurements of a check: 2 segments a step of a process, and 0.5 s a step.

    Args:
        val: The segments to validate on.
        processes: Number of processes.
        micro_batch: Segments that a process trains on at once.
        precision: Number format of a GPU.
        is_transformer: Whether the model is a transformer.
        device: "cpu" or "cuda".
        load_seconds: Seconds to load a segment.
        workers: Loader processes of a process.
        sample: The step of the pipeline that chooses frames.
        **changes: Other values of the config, by dotted key.
    """
    config = Config(
        {
            "model": {
                "type": "Recognizer3D",
                "backbone": {"type": "X3D"},
                "cls_head": {
                    "heads": "pair",
                    "head": {"dropout_ratio": 0.5, "label_smooth_eps": 0.1},
                },
            },
            "train_dataloader": {
                "batch_size": 2,
                "num_workers": workers,
                "dataset": {"pipeline": [sample]},
            },
            "val_dataloader": {"dataset": {}},
            "train_cfg": {"max_epochs": 10, "val_interval": 5},
            "work_dir": "work_dirs/abc",
            "optim_wrapper": {"optimizer": {"type": "SGD", "lr": 0.01}},
            "auto_scale_lr": {"enable": True, "base_batch_size": 32},
            "load_from": None,
        }
    )
    config.merge_from_dict(changes)
    plan = TrainingPlan(
        config=config,
        placement=Placement(device, processes),
        batch_per_process=2,
        micro_batch=micro_batch,
        precision=precision,
        val=val,
        no_val="" if val is not None else "no segment to validate on",
    )
    return TrialResult(
        plan=plan,
        parameters=3_794_322,
        weights="",
        disk="9.0 GB free",
        is_transformer=is_transformer,
        loss=2.0,
        seconds=9.0,
        step_seconds=0.5,
        load_seconds=load_seconds,
        shape=(1, 3, 13, 160, 160),
    )


def table(train, remote_device="", **changes):
    """Make the table of a training on these segments, with 3 verb and 2 noun classes."""
    return start_table(found_by_a_check(**changes), train, PAIRS, (3, 2), remote_device)


def test_the_table_says_data_model_schedule_device_and_time():
    rows = dict(table(segments((0, 0), (0, 0), (0, 1), (0, 0), (2, 1))).rows)
    assert rows["data"] == "5 segments of 1 videos, 3 pairs"
    assert rows["model"] == (
        "Recognizer3D, backbone X3D, 3.79 M parameters; 13 frames of 160 x 160"
    )
    assert rows["schedule"] == (
        "10 epochs of 2 steps; batch 4 = 2 processes x 2 parts x 1; SGD, lr 0.00125 = 0.01 x 4/32"
    )
    assert rows["device"].startswith("CPU, 2 x ")
    assert rows["head"] == "dropout 0.5, label smoothing 0.1, no average"
    # Each of 10 epochs has 2 steps. A step computes for 0.5 s, once 2 segments of 0.02 s are
    # loaded.
    assert rows["time"].startswith("about 11 seconds (0.50 s a step")


@pytest.mark.parametrize(
    "sample, words",
    [
        pytest.param(DENSE, "13 frames, 6 apart at the file's rate", id="dense"),
        pytest.param(
            DENSE | {"target_fps": 60}, "13 frames, 6 apart at 60 frames a second", id="stated rate"
        ),
        pytest.param(
            {"type": "UniformSample", "clip_len": 16},
            "16 frames over the whole segment",
            id="spread evenly",
        ),
        pytest.param(
            DENSE | {"clip_len": 1, "num_clips": 8},
            "8 frames over the whole segment",
            id="clips of single frames",
        ),
        pytest.param(
            {"type": "MySample"}, "frames as a step of its own takes them", id="a user's step"
        ),
    ],
)
def test_the_table_says_which_frames_of_a_segment_a_clip_has(sample, words):
    assert dict(table(segments((0, 0)), sample=sample).rows)["clip"] == words


WARNS_BATCH_NORM = (
    "warning: BatchNorm sees 1 segments at a time on each of 2 processes; below 16 its statistics "
    "are poor: raise `batch_size` to 64, or set `bn: sync` or `frozen`"
)
WARNS_FLOAT32 = "warning: a transformer in float32, in which a GPU takes several times as long"
WARNS_RATE = "warning: the learning rate is 0: nothing will be learned"
# The table is made on a CPU, before a job on a GPU.
FLOAT32_ON_GPU = {"remote_device": "cuda", "is_transformer": True, "precision": "fp32"}


@pytest.mark.parametrize(
    "changes, words, absent_words",
    [
        pytest.param(
            {
                "train": segments((0, 0), (0, 1)),
                "val": segments((0, 0), (1, 1), (1, 1)),
            },
            [
                "warning: 2 verbs have no segment to learn from and are never predicted",
                "warning: 2 of 3 val segments (66.7 %) are of 1 pairs that train never has",
                "warning: a batch of 4 is larger than the data: 2 segments",
            ],
            ["nouns have no segment"],
            id="few segments",
        ),
        pytest.param(
            {},
            [WARNS_BATCH_NORM, ", float32, bn local", "val: none: no segment to validate on\n"],
            [WARNS_FLOAT32, WARNS_RATE],
            id="small micro-batches",
        ),
        pytest.param({"sync_bn": "torch"}, ["bn sync"], ["BatchNorm sees"], id="synced BatchNorm"),
        pytest.param(
            {"processes": 1, "micro_batch": 2},
            ["device: CPU, 1 x "],
            [", bn ", "BatchNorm sees"],
            id="one process",
        ),
        pytest.param(FLOAT32_ON_GPU, [WARNS_FLOAT32], [], id="a transformer in float32"),
        pytest.param(
            FLOAT32_ON_GPU | {"is_transformer": False}, [], [WARNS_FLOAT32], id="no transformer"
        ),
        pytest.param(
            FLOAT32_ON_GPU | {"precision": "fp16"}, [], [WARNS_FLOAT32], id="not in float32"
        ),
        pytest.param(FLOAT32_ON_GPU | {"remote_device": "cpu"}, [], [WARNS_FLOAT32], id="on a CPU"),
        pytest.param({"optim_wrapper.optimizer.lr": 0.0}, [WARNS_RATE], [], id="rate of 0"),
        pytest.param(
            {"model.cls_head.heads": "both", "val": segments((0, 0), (2, 0))},
            [
                "head: pairs, verbs and nouns, dropout 0.5, label smoothing 0.1",
                "can be right by `export: reduce: heads` or `joint` alone",
            ],
            [],
            id="heads of verbs and nouns",
        ),
    ],
)
def test_the_table_warns_only_of_settings_that_are_unlikely_to_go_well(
    changes, words, absent_words
):
    """The changes are arguments of `found_by_a_check`, except for `train` and `remote_device`."""
    text = table(**{"train": segments((0, 0))} | changes).text()
    assert [word for word in words if word not in text] == []
    assert [word for word in absent_words if word in text] == []


@pytest.mark.parametrize(
    "device, load_seconds, seconds",
    [
        # Each of 10 steps computes for 0.5 s. Meanwhile 2 segments of 0.1 s each are loaded.
        pytest.param("cuda", 0.1, 10 * 0.5, id="a GPU is the limit"),
        pytest.param("cuda", 2.0, 10 * 2 * 2.0, id="the loader is the limit"),
        # A CPU loads and computes one after the other.
        pytest.param("cpu", 0.1, 10 * (0.5 + 2 * 0.1), id="a CPU"),
    ],
)
def test_workers_load_while_a_gpu_computes(device, load_seconds, seconds):
    found = found_by_a_check(
        processes=1, micro_batch=2, device=device, load_seconds=load_seconds, workers=1
    )
    assert epoch_seconds(found, steps=10) == pytest.approx(seconds)


def test_a_slow_loader_is_warned_of_with_its_seconds_and_a_remedy():
    text = loader_advice(waited=0.9, spent=1.2, workers=2, cores=18)
    assert text.startswith(
        "the loader is the limit: of 1.20 s an iteration 0.90 s (75 %) are spent waiting for data, "
        "0.30 s computing; raise `train: workers:` from 2 towards the 18 cores"
    )
    # More workers would not help: 17 load, and one core trains.
    text = loader_advice(waited=0.9, spent=1.2, workers=17, cores=18)
    assert "train: workers:" not in text and "videos: proxy:" in text and "more cores" in text


def test_the_version_of_the_nvidia_driver_is_read_from_its_file(tmp_path):
    file = tmp_path / "version"
    assert driver_version(file) is None
    file.write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n"
        "GCC version:  gcc version 11.4.0 (Ubuntu 11.4.0-1ubuntu1~22.04)\n"
    )
    assert driver_version(file) == "535.104.05"
