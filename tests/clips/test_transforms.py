"""Steps of a pipeline: reading frames, crops drawn before decoding; batches in one piece."""

import pickle
import resource
import sys

import numpy as np
import psutil
import pytest
import torch
from mmaction.registry import MODELS, TRANSFORMS
from mmaction.structures import ActionDataSample
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader

import epic100.mmaction  # noqa: F401
from epic100.base.errors import EpicError
from epic100.clips.crop import Crop
from epic100.clips.dataset import (
    EpicSegmentVideoDataset,
    Mover,
    SamplesByValue,
    TensorsInOne,
    collate_in_one,
)
from epic100.clips.transforms import DecodeSegment, OpenSegment
from epic100.video.reader import FrameError
from support.checkout import DECODERS
from support.own_process import apart


def opened(lab, **kwargs):
    path = str(lab.videos["P02_101"].path(lab.root))
    return OpenSegment(**kwargs).transform({"filename": path, "narration_id": "P02_101_7"})


def test_a_decoder_that_is_unknown_or_that_this_platform_does_not_have_is_refused(monkeypatch):
    with pytest.raises(EpicError, match="'opencv'.*'pyav' or 'decord'"):
        OpenSegment(decoder="opencv")
    monkeypatch.setitem(sys.modules, "decord", None)
    with pytest.raises(EpicError, match="'decord', which is not installed.*expected 'pyav'"):
        OpenSegment(decoder="decord")


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_rate_is_the_files_own_with_and_without_a_scan(lab, decoder):
    for kwargs in ({}, {"index_dir": f"{lab.results}/scan"}):
        assert opened(lab, decoder=decoder, **kwargs)["avg_fps"] == pytest.approx(50.0)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    ("start", "frame", "error", "words"),
    [
        (100, 150, EpicError, r"P02_101_7: .*\[100, 150\)"),
        (4990, 5000, FrameError, r"P02_101_7: .*P02_101\.MP4"),
    ],
    ids=["outside the segment", "outside the file"],
)
def test_a_frame_that_is_not_there_names_the_segment(lab, decoder, start, frame, error, words):
    sample = opened(lab, decoder=decoder)
    sample |= {"frame_inds": np.array([start, frame]), "start_index": start, "total_frames": 50}
    with pytest.raises(error, match=words):
        DecodeSegment().transform(sample)


@pytest.mark.parametrize("decoder", DECODERS)
def test_whole_pictures_are_scaled_to_a_size_from_a_closed_interval(lab, decoder):
    sample = opened(lab, decoder=decoder) | {"frame_inds": np.arange(3), **SEGMENT}
    np.random.seed(0)
    sizes = [Crop(short_side=(30, 33)).draw(sample["video_reader"].size)[0] for _ in range(50)]
    assert {height for height, _ in sizes} == {30, 31, 32, 33}
    np.random.seed(0)
    out = DecodeSegment(short_side=(30, 33)).transform(sample)
    assert out["imgs"][0].shape == (*sizes[0], 3)
    full_height, full_width = out["original_shape"]
    assert sizes[0][1] == pytest.approx(sizes[0][0] * full_width / full_height, abs=1)


def test_open_files_do_not_travel_to_other_processes(lab):
    step = OpenSegment()
    step.transform({"filename": str(lab.videos["P02_101"].path(lab.root))})
    assert pickle.loads(pickle.dumps(step))._readers is None


def pictures_of(lab, *steps, decoder="pyav"):
    """The segments of train, with a few pictures of each."""
    first = [
        {"type": "OpenSegment", "decoder": decoder, "index_dir": f"{lab.results}/scan"},
        {"type": "UniformSample", "clip_len": 4},
        {"type": "DecodeSegment", "short_side": 32},
    ]
    listed = f"{lab.results}/clean/train.txt"
    return EpicSegmentVideoDataset(listed, [*first, *steps], data_root=lab.root, test_mode=True)


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_forked_process_reads_with_readers_of_its_own(lab, decoder):
    data = pictures_of(lab, decoder=decoder)
    expected = data[0]["imgs"]
    forked = {"num_workers": 1, "timeout": 60, "multiprocessing_context": "fork"}
    (clip,) = DataLoader(data, None, sampler=[0], **forked)
    assert np.array_equal(clip["imgs"], expected)


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


def test_a_batch_is_pinned_in_one_piece_and_moved_in_two(monkeypatch):
    """It was put together again to be pinned, and moved clip by clip and label by label."""
    pinned, moved, move = [], [], torch.Tensor.to
    # Without a GPU nothing can be pinned.
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda t: pinned.append(t) or t.clone())
    monkeypatch.setattr(torch.Tensor, "to", lambda t, *a, **k: moved.append(t) or move(t, *a, **k))
    batch = pickle.loads(pickle.dumps(collate_in_one(clips(6))))
    assert all(map(torch.equal, batch["inputs"].pin_memory(), batch["inputs"]))
    assert len(pinned) == 1 and pinned[0] is batch["inputs"].whole
    on_device = Mover(torch.device("meta"))(batch)
    assert len(moved) == 2 and moved[0] is batch["inputs"].whole
    made = MODELS.build({"type": "ActionDataPreprocessor", "format_shape": "NCTHW"}).to("meta")
    inputs = made(on_device, True)["inputs"]
    assert inputs.is_meta and inputs.dtype == torch.float32 and len(inputs) == 6
    assert all(sample.gt_label.is_meta for sample in on_device["data_samples"])


def test_soft_labels_and_clips_of_several_shapes_travel_too():
    samples = clips(1) + clips(1, shape=(1, 3, 2, 6, 6))
    samples[0]["data_samples"].set_gt_label(np.array([0, 1]))
    batch = pickle.loads(pickle.dumps(collate_in_one(samples)))
    assert [tuple(item.shape[-2:]) for item in batch["inputs"]] == [(4, 4), (6, 6)]
    assert batch["data_samples"][0].gt_label.tolist() == [0, 1]
    assert isinstance(batch["data_samples"], SamplesByValue)


def keep_all_batches():
    """How many more files are open when all has come, under a usual soft limit of files.

    As on a node with A100s; batches are kept, as by the pin_memory thread and a slow step.
    """
    inherited = psutil.Process().num_fds()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, most))
    samples = clips(128 * (18 * 2 + 1))
    forked = {"num_workers": 18, "multiprocessing_context": "fork"}
    batches = list(DataLoader(samples, 128, collate_fn=collate_in_one, **forked))
    found = [pair for b in batches for pair in zip(b["inputs"], b["data_samples"], strict=True)]
    for (inputs, sample), known in zip(found, samples, strict=True):
        assert torch.equal(inputs, known["inputs"])
        assert sample.narration_id == known["data_samples"].narration_id
        assert sample.gt_label == known["data_samples"].gt_label
    return psutil.Process().num_fds() - inherited


@pytest.mark.slow
def test_18_workers_with_batches_of_128_and_a_slow_consumer_keep_few_files_open():
    assert apart(keep_all_batches) < 300


SEGMENT = {"start_index": 0, "total_frames": 50, "modality": "RGB", "narration_id": "P02_101_7"}


@pytest.fixture
def clip_of(lab):

    def read(steps, seed=0, decoder="pyav"):
        """The clip that the steps give, and a random number drawn after it."""
        path = lab.videos["P02_101"].path(lab.root)
        sample = {"filename": str(path), "frame_inds": np.array([3, 9, 15]), **SEGMENT}
        np.random.seed(seed)
        for step in ({"type": "OpenSegment", "decoder": decoder}, *steps):
            sample = TRANSFORMS.build(step).transform(sample)
        return np.stack(sample["imgs"]), np.random.rand()

    return read


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    ("kind", "crop"),
    [
        ("random", {"type": "RandomCrop", "size": 40}),
        ("centre", {"type": "CenterCrop", "crop_size": 40}),
    ],
)
def test_a_crop_shows_what_mmaction2_s_steps_show_with_the_same_random_numbers(
    clip_of, kind, crop, decoder
):
    step = {"type": "DecodeSegment", "short_side": (48, 60), "crop": kind, "size": 40}
    separate = [{"type": "DecodeSegment", "short_side": (48, 60)}, crop]
    separate.append({"type": "Flip", "flip_ratio": 0.5})
    for seed in range(4):
        ours, after = clip_of([step | {"flip_ratio": 0.5}], seed, decoder)
        theirs, after_theirs = clip_of(separate, seed, decoder)
        assert ours.shape == theirs.shape == (3, 40, 40, 3) and after == after_theirs
        # The values go to 255. A crop of another place differs by 20 and more.
        assert np.abs(ours.astype(int) - theirs).mean() < 6


@pytest.mark.parametrize("picture", [(256, 455), (57, 101), (1080, 1920)])
def test_resized_crops_have_the_area_and_shape_of_the_recipe(picture):
    np.random.seed(0)
    crop, (height, width) = Crop("resized", 160, area=(0.5, 1.0), flip_ratio=0.5), picture
    windows = [crop.draw(picture)[1] for _ in range(400)]
    assert all(0 <= w.top <= height - w.height for w in windows)
    assert all(0 <= w.left <= width - w.width for w in windows)
    # If no draw fits inside the picture, the crop is its largest square.
    drawn = [w for w in windows if not w.width == w.height == height]
    assert len(drawn) > 200
    areas = np.array([w.height * w.width / (height * width) for w in drawn])
    ratios = np.array([w.width / w.height for w in drawn])
    slack = 4 / height
    assert areas.min() > 0.5 - slack and areas.max() > 0.6
    assert ratios.min() > 0.75 - slack and ratios.max() < 4 / 3 + slack
    assert 0.4 < np.mean([w.flipped for w in windows]) < 0.6
    assert len({(w.top, w.left) for w in drawn}) > 20


def test_a_resized_crop_gives_squares_of_its_size(clip_of):
    step = {"type": "DecodeSegment", "crop": "resized", "size": 32}
    (clip, _), (again, _) = clip_of([step]), clip_of([step])
    assert clip.shape == (3, 32, 32, 3) and np.array_equal(clip, again)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (
            {"kind": "middle", "size": 32},
            "crop is 'middle'; expected one of centre, random, resized",
        ),
        ({"kind": "random"}, "crop is 'random' and size None; expected both or neither"),
        ({"size": 32}, "crop is None and size 32; expected both or neither"),
        (
            {"kind": "random", "size": 64, "short_side": 48},
            "size is 64, but a picture is scaled to 85x48; expected",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_errors(wrong, words):
    with pytest.raises(EpicError, match=words):
        Crop(**wrong).draw((256, 455))


SQUARE = {"scale": (24, 24), "keep_ratio": False}
# These are all steps of MMAction2 that change pictures. `Fuse` carries out a lazy one before it.
STEPS = [
    {"type": "RandomCrop", "size": 24},
    {"type": "RandomResizedCrop"},
    {"type": "MultiScaleCrop", "input_size": 24},
    {"type": "Resize", **SQUARE},
    {"type": "RandomRescale", "scale_range": (40, 50)},
    {"type": "Flip"},
    {"type": "CenterCrop", "crop_size": 24},
    {"type": "ThreeCrop", "crop_size": 32},
    {"type": "TenCrop", "crop_size": 24},
    {"type": "ColorJitter", "hue": 0.5},
    {"type": "RandomErasing", "mode": "rand"},
    {"type": "Fuse"},
    {"type": "TorchVisionWrapper", "op": "RandAugment"},
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step["type"])
def test_a_step_of_mmaction2_changes_pictures_of_bytes_the_same_with_the_same_seeds(lab, step):
    """ColorJitter failed in NumPy 2; what torch and Python drew followed from no sample's seed."""
    lazy = [{"type": "Resize", "lazy": True, **SQUARE}] if step["type"] == "Fuse" else []
    made = [pictures_of(lab, *lazy, step) for _ in "ab"]
    for number in (0, 6):
        first, second = (np.stack(dataset[number]["imgs"]) for dataset in made)
        assert first.dtype == np.uint8 and first.ndim == 4
        assert np.array_equal(first, second)
