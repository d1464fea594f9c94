"""Batches that loader processes send to the training: few open files, and pinned memory."""

import operator
import pickle
import resource

import numpy as np
import psutil
import pytest
import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader
from torch.utils.data._utils.pin_memory import pin_memory

import epic100.mmaction  # noqa: F401
from epic100.clips.dataset import SamplesByValue, collate_in_one
from support.this_process import apart


def random_samples(count, side=4):
    """Samples with random clips of this many pixels a side, labelled 0, 1, 2 and so on."""
    return [
        {
            "inputs": torch.randint(0, 256, (1, 3, 2, side, side), dtype=torch.uint8),
            "data_samples": ActionDataSample(metainfo={"narration_id": f"a_{i}"}).set_gt_label(i),
        }
        for i in range(count)
    ]


@pytest.fixture(params=["one shape", "two shapes"])
def samples(request):
    return random_samples(2) + random_samples(1, side=4 if request.param == "one shape" else 6)


def test_batches_equal_pseudo_collate_s_even_pickled(samples):
    samples[0]["data_samples"].set_gt_label(np.array([0, 1]))
    expected = pseudo_collate(samples)
    batch = collate_in_one(samples)
    # A worker sends its batch to the training process by pickling.
    for found in (batch, pickle.loads(pickle.dumps(batch))):
        assert all(map(torch.equal, found["inputs"], expected["inputs"]))
        assert isinstance(found["data_samples"], SamplesByValue)
        pairs = zip(found["data_samples"], expected["data_samples"], strict=True)
        for sample, expected_sample in pairs:
            assert type(sample) is ActionDataSample
            assert sample.metainfo == expected_sample.metainfo
            assert torch.equal(sample.gt_label, expected_sample.gt_label)


def test_pinned_clips_reach_the_model(samples, monkeypatch):
    # Without a GPU nothing can be pinned, so a copy stands for a pinned tensor.
    copies, moved, move = [], [], torch.Tensor.to
    monkeypatch.setattr(
        torch.Tensor, "pin_memory", lambda clip: copies.append(clip.clone()) or copies[-1]
    )
    batch = pickle.loads(pickle.dumps(collate_in_one(samples)))
    # Torch 2.13 first asks whether an object pins itself, 2.7.1 first whether it is a sequence; see
    # torch/utils/data/_utils/pin_memory.py. A list that does not pin itself is equal to both.
    assert not any(hasattr(part, "pin_memory") for part in (batch, *batch.values()))
    got = pin_memory(batch)
    assert len(copies) == 3 and all(map(operator.is_, got["inputs"], copies))
    # MMEngine moves the clips of the list that it gets.
    monkeypatch.setattr(torch.Tensor, "to", lambda t, *a, **k: moved.append(t) or move(t, *a, **k))
    preprocessor = MODELS.build({"type": "ActionDataPreprocessor", "format_shape": "NCTHW"})
    on_device = preprocessor.to("meta").cast_data(got)
    assert all(any(clip is copy for clip in moved) for copy in copies)
    assert all(clip.is_meta for clip in on_device["inputs"])
    assert all(sample.gt_label.is_meta for sample in on_device["data_samples"])


def count_open_files():
    """Load 37 batches and keep them, as a slow training step does; count the files that this opens.

    The limit of files is the usual one of Linux.
    """
    already_open = psutil.Process().num_fds()
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard_limit))
    # Each of 18 workers prefetches two batches, and the loop uses one.
    samples = random_samples(128 * (18 * 2 + 1))
    forked = {"num_workers": 18, "multiprocessing_context": "fork"}
    batches = list(DataLoader(samples, batch_size=128, collate_fn=collate_in_one, **forked))
    assert torch.equal(batches[-1]["inputs"][-1], samples[-1]["inputs"])
    return psutil.Process().num_fds() - already_open


@pytest.mark.slow
def test_18_workers_keep_few_files_open():
    assert apart(count_open_files) < 300
