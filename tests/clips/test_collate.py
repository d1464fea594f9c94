"""Batches in one piece: the same as MMEngine's, and few descriptors."""

import multiprocessing
import pickle
import resource

import numpy as np
import psutil
import torch
from mmaction.structures import ActionDataSample
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader

from epic100.clips.dataset import SamplesByValue, TensorsInOne, collate_in_one


def clips(number, shape=(1, 3, 2, 4, 4)):
    return [
        {
            "inputs": torch.randint(0, 256, shape, dtype=torch.uint8),
            "data_samples": ActionDataSample(metainfo={"narration_id": f"a_{i}"}).set_gt_label(i),
        }
        for i in range(number)
    ]


def test_a_batch_is_mmengine_s_before_and_after_it_travels():
    samples = clips(3)
    expected = pseudo_collate(samples)
    for batch in (collate_in_one(samples), pickle.loads(pickle.dumps(collate_in_one(samples)))):
        assert isinstance(batch["inputs"], TensorsInOne) and len(batch["inputs"]) == 3
        assert all(map(torch.equal, batch["inputs"], expected["inputs"]))
        for found, known in zip(batch["data_samples"], expected["data_samples"], strict=True):
            assert type(found) is ActionDataSample and found.metainfo == known.metainfo
            assert torch.equal(found.gt_label, known.gt_label)


def test_soft_labels_and_clips_of_several_shapes_travel_too():
    samples = clips(1) + clips(1, shape=(1, 3, 2, 6, 6))
    samples[0]["data_samples"].set_gt_label(np.array([0, 1]))
    batch = pickle.loads(pickle.dumps(collate_in_one(samples)))
    assert [tuple(item.shape[-2:]) for item in batch["inputs"]] == [(4, 4), (6, 6)]
    assert batch["data_samples"][0].gt_label.tolist() == [0, 1]
    assert isinstance(batch["data_samples"], SamplesByValue)


def keep_all_batches(said):
    """Say how many more files are open when all has come, under a usual soft limit of files.

    As on a node with A100s; batches are kept, as by the pin_memory thread and a slow step.
    """
    inherited = psutil.Process().num_fds()
    torch.set_num_threads(1)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, most))
    samples = clips(128 * (18 * 2 + 1))
    batches = list(DataLoader(samples, 128, num_workers=18, collate_fn=collate_in_one))
    found = [pair for b in batches for pair in zip(b["inputs"], b["data_samples"], strict=True)]
    for (inputs, sample), known in zip(found, samples, strict=True):
        assert torch.equal(inputs, known["inputs"])
        assert sample.narration_id == known["data_samples"].narration_id
        assert sample.gt_label == known["data_samples"].gt_label
    said.put(psutil.Process().num_fds() - inherited)


def test_18_workers_with_batches_of_128_and_a_slow_consumer_keep_few_files_open():
    fork = multiprocessing.get_context("fork")
    said = fork.SimpleQueue()
    process = fork.Process(target=keep_all_batches, args=(said,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert said.get() < 300
