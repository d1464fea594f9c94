"""Batches in one piece: the same as MMEngine's, and few descriptors."""

import pickle
import subprocess
import sys

import numpy as np
import torch
from mmaction.structures import ActionDataSample
from mmengine.dataset import pseudo_collate

from epic100.clips.collate import SamplesByValue, TensorsInOne, collate_in_one

# As on a node with A100s: 18 workers, batches of 128, a usual soft limit; the consumer waits
# until all that is ordered ahead has come.
SLOW_CONSUMER = """
import resource, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
import psutil, torch
from torch.utils.data import DataLoader, Dataset
from mmaction.structures import ActionDataSample
from mmengine.dataset import pseudo_collate
from epic100.clips.collate import collate_in_one

class Clips(Dataset):
    def __len__(self):
        return 128 * 18 * 2 + 128
    def __getitem__(self, index):
        sample = ActionDataSample(metainfo={"narration_id": str(index)}).set_gt_label(index)
        return {"inputs": torch.full((1, 3, 2, 2, 2), index % 256, dtype=torch.uint8),
                "data_samples": sample}

torch.set_num_threads(1)
loader = DataLoader(Clips(), batch_size=128, num_workers=18, prefetch_factor=2,
                    collate_fn=globals()[sys.argv[1]])
seen, kept = 0, []
for number, batch in enumerate(loader):
    kept.append(batch)  # as the pin_memory thread and a slow step keep what has come
    for sample, inputs in zip(batch["data_samples"], batch["inputs"]):
        assert int(sample.gt_label) == seen and sample.narration_id == str(seen)
        assert int(inputs.max()) == seen % 256
        seen += 1
print(seen, psutil.Process().num_fds())
"""


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


def test_18_workers_with_batches_of_128_and_a_slow_consumer_keep_few_files_open():
    done = subprocess.run(
        [sys.executable, "-c", SLOW_CONSUMER, "collate_in_one"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    seen, files = map(int, done.stdout.split())
    assert seen == 128 * 37 and files < 300
