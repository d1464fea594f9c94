"""The steps of a pipeline that read frames, and batches in one piece."""

import multiprocessing
import pickle
import resource
import sys

import numpy as np
import psutil
import pytest
import torch
from mmaction.structures import ActionDataSample
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader

import epic100.mmaction  # noqa: F401
from epic100.base.errors import EpicError
from epic100.clips.dataset import SamplesByValue, TensorsInOne, collate_in_one
from epic100.clips.transforms import BlankSegment, DecodeSegment, OpenSegment
from epic100.video.reader import FrameError
from support.decoders import DECODERS


def opened(lab, **kwargs):
    path = str(lab.videos["P02_101"].path(lab.root))
    return OpenSegment(**kwargs).transform({"filename": path, "narration_id": "P02_101_7"})


def test_an_unknown_decoder_is_refused_by_name():
    with pytest.raises(EpicError, match="'opencv'.*'pyav' or 'decord'"):
        OpenSegment(decoder="opencv")


def test_a_decoder_that_this_platform_does_not_have_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "decord", None)
    with pytest.raises(EpicError, match="'decord', which is not installed.*expected 'pyav'"):
        OpenSegment(decoder="decord")


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_rate_is_the_files_own_with_and_without_a_scan(lab, decoder):
    for kwargs in ({}, {"index_dir": f"{lab.results}/scan"}):
        assert opened(lab, decoder=decoder, **kwargs)["avg_fps"] == pytest.approx(50.0)


def test_a_frame_outside_the_segment_is_never_handed_out(lab):
    sample = opened(lab) | {
        "frame_inds": np.array([100, 150]), "start_index": 100, "total_frames": 50,
    }  # fmt: skip
    with pytest.raises(EpicError, match=r"P02_101_7.*\[100, 150\)"):
        DecodeSegment().transform(sample)


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_frame_that_is_not_in_the_file_names_the_segment(lab, decoder):
    sample = opened(lab, decoder=decoder) | {
        "frame_inds": np.array([5000]), "start_index": 4990, "total_frames": 50,
    }  # fmt: skip
    with pytest.raises(FrameError, match=r"P02_101_7: .*P02_101\.MP4"):
        DecodeSegment().transform(sample)


@pytest.mark.parametrize("decoder", DECODERS)
def test_pictures_are_scaled_while_they_are_decoded(lab, decoder):
    sample = {"frame_inds": np.arange(10), "start_index": 0, "total_frames": 50}
    step = DecodeSegment(short_side=(30, 50))
    heights = set()
    for seed in range(12):
        np.random.seed(seed)
        out = step.transform(opened(lab, decoder=decoder) | sample)
        (height, width), (full_height, full_width) = out["img_shape"], out["original_shape"]
        assert out["imgs"][0].shape == (height, width, 3)
        assert width / height == pytest.approx(full_width / full_height, abs=0.03)
        heights.add(height)
    assert len(heights) > 4 and min(heights) >= 30 and max(heights) <= 50


def test_pictures_of_a_file_that_is_not_there_are_grey():
    sample = {"start_index": 100, "total_frames": 50, "frame_inds": np.array([100, 149])}
    pictures = DecodeSegment(short_side=30).transform(BlankSegment().transform(sample))["imgs"]
    assert len(pictures) == 2 and {picture.shape[0] for picture in pictures} == {30}
    assert np.unique(pictures).tolist() == [128]


def test_open_files_do_not_travel_to_other_processes(lab):
    step = OpenSegment()
    step.transform({"filename": str(lab.videos["P02_101"].path(lab.root))})
    assert pickle.loads(pickle.dumps(step))._readers is None


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_forked_process_reads_with_readers_of_its_own(lab, decoder):
    step = OpenSegment(decoder=decoder)
    sample = {"filename": str(lab.videos["P02_101"].path(lab.root)), "narration_id": "P02_101_7"}
    expected = step.transform(dict(sample))["video_reader"].get_frames([7]).mean()

    def read(queue):
        reader = step.transform(dict(sample))["video_reader"]
        queue.put(reader.get_frames([7]).mean())

    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=read, args=(queue,))
    child.start()
    assert queue.get(timeout=30) == expected
    child.join()
    assert child.exitcode == 0


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
