"""Pipeline steps: opening, decoding and cropping clips; and batches sent between processes."""

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
from torch.utils.data._utils.pin_memory import pin_memory

import epic100.mmaction  # noqa: F401
from epic100.base.errors import EpicError
from epic100.clips.crop import Crop
from epic100.clips.dataset import EpicSegmentVideoDataset, SamplesByValue, collate_in_one
from epic100.clips.transforms import DecodeSegment, OpenSegment
from epic100.video.build_index import build_index
from epic100.video.reader import FrameError
from support.checkout import DECODERS
from support.this_process import apart
from support.tricky_videos import encode

SEGMENT = {"start_index": 0, "total_frames": 50, "modality": "RGB", "narration_id": "P02_101_7"}


def open_segment(lab, **options):
    """Open a video of the lab of 50 fps with `OpenSegment`, and return the step's result."""
    path = str(lab.videos["P02_101"].path(lab.root))
    return OpenSegment(**options).transform({"filename": path, **SEGMENT})


@pytest.mark.parametrize(
    ("decoder", "words"),
    [
        ("opencv", "'opencv'.*'pyav' or 'decord'"),
        ("decord", "'decord', which is not installed.*expected 'pyav'"),
    ],
)
def test_a_decoder_that_is_unknown_or_not_installed_is_refused(monkeypatch, decoder, words):
    # With None here, an import fails as if the package were not installed.
    monkeypatch.setitem(sys.modules, "decord", None)
    with pytest.raises(EpicError, match=words):
        OpenSegment(decoder=decoder)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("has_index", [False, True])
def test_the_rate_is_that_of_the_file(lab, decoder, has_index):
    index_dir = f"{lab.results}/scan" if has_index else None
    sample = open_segment(lab, decoder=decoder, index_dir=index_dir)
    assert sample["avg_fps"] == pytest.approx(50.0)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    ("start", "frame", "error", "words"),
    [
        pytest.param(100, 150, EpicError, r"P02_101_7: .*\[100, 150\)", id="after the segment"),
        pytest.param(4990, 5000, FrameError, r"P02_101_7: .*P02_101\.MP4", id="after the file"),
    ],
)
def test_the_error_about_a_missing_frame_names_the_segment(
    lab, decoder, start, frame, error, words
):
    sample = open_segment(lab, decoder=decoder)
    sample |= {"frame_inds": np.array([start, frame]), "start_index": start}
    with pytest.raises(error, match=words):
        DecodeSegment().transform(sample)


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_picture_is_scaled_to_a_short_side_drawn_from_a_closed_interval(lab, decoder):
    sample = open_segment(lab, decoder=decoder) | {"frame_inds": np.arange(3)}
    # Each test of this file seeds NumPy, since the steps draw from its global generator.
    np.random.seed(0)
    sizes = [Crop(short_side=(30, 33)).draw(sample["video_reader"].size)[0] for _ in range(50)]
    assert {height for height, _ in sizes} == {30, 31, 32, 33}
    np.random.seed(0)
    result = DecodeSegment(short_side=(30, 33)).transform(sample)
    assert result["imgs"][0].shape == (*sizes[0], 3)
    height, width = sizes[0]
    full_height, full_width = result["original_shape"]
    assert width == pytest.approx(height * full_width / full_height, abs=1)


@pytest.fixture(scope="module")
def gap_film(tmp_path_factory):
    """A film of 160 frames at 29.97 a second, with a gap of 40 frames after frame 99.

    Frame i is all grey i.
    """
    path = tmp_path_factory.mktemp("gap") / "P01_01.MP4"
    greys = [np.full((64, 96, 3), number, np.uint8) for number in range(160)]
    times = [1001 * (number + 40 * (number > 99)) for number in range(160)]
    return encode(path, source=greys, times=times, qp=1)


def open_gap_film(gap_film, decoder, start, stop):
    """Open the frames [start, stop) of the film with a gap."""
    segment = {**SEGMENT, "start_index": start, "total_frames": stop - start}
    return OpenSegment(decoder).transform({"filename": str(gap_film), **segment})


def greys_of(sample):
    """Decode a sample of the film with a gap; return the numbers of the frames, by their greys."""
    frames = DecodeSegment().transform(sample)["imgs"]
    # The greys of a file go from 16 to 235, so the encoder may change a grey by 1.
    return np.array([frame.mean() for frame in frames])


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("cut", [0, 10, 30], ids="narrowed by {}".format)
def test_a_segment_that_is_narrowed_after_it_was_opened_shows_its_own_frames(
    gap_film, decoder, cut
):
    sample = open_gap_film(gap_film, decoder, 80, 120)
    # The segment lasts as long as 80 frames: 20 before the gap, 40 in it and 20 after it.
    assert sample["total_frames"] == 80
    sample["start_index"] += cut
    sample["total_frames"] -= 2 * cut
    moments = sample["start_index"] + np.arange(sample["total_frames"])
    sample["frame_inds"] = moments
    greys = greys_of(sample)
    # Frame 99 is shown during the gap.
    expected = np.where(moments < 140, np.minimum(moments, 99), moments - 40)
    assert np.abs(greys - expected).max() <= 1.5
    assert sample["frame_inds"].tolist() == expected.tolist()


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("change", [-1, 1], ids=["before its start", "after its end"])
def test_a_frame_that_the_opened_segment_with_a_gap_lacks_is_an_error(gap_film, decoder, change):
    sample = open_gap_film(gap_film, decoder, 80, 120)
    sample["start_index"] += change
    sample["frame_inds"] = sample["start_index"] + np.array([0, sample["total_frames"] - 1])
    with pytest.raises(EpicError, match=r"P02_101_7: frames 79-158|P02_101_7: frames 81-160"):
        DecodeSegment().transform(sample)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("start", [0, 60, 100, 130])
def test_frames_are_converted_only_where_the_segment_has_a_gap(gap_film, decoder, start):
    sample = open_gap_film(gap_film, decoder, start, start + 30)
    assert (sample["start_index"], sample["total_frames"]) == (start, 30)
    frames = np.arange(start, start + 30, 7)
    assert np.abs(greys_of(sample | {"frame_inds": frames}) - frames).max() <= 1.5


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_gap_does_not_lower_the_rate(gap_film, decoder):
    rate = open_gap_film(gap_film, decoder, 0, 10)["avg_fps"]
    assert rate == build_index(gap_film).fps == pytest.approx(30000 / 1001)


def test_a_pickled_step_has_no_open_files(lab):
    step = OpenSegment()
    step.transform({"filename": str(lab.videos["P02_101"].path(lab.root))})
    assert pickle.loads(pickle.dumps(step))._readers is None


def segments_of_train(lab, *steps, decoder="pyav"):
    """The dataset of the lab's train list with four frames of each segment, and further steps."""
    first_steps = [
        {"type": "OpenSegment", "decoder": decoder, "index_dir": f"{lab.results}/scan"},
        {"type": "UniformSample", "clip_len": 4},
        {"type": "DecodeSegment", "short_side": 32},
    ]
    return EpicSegmentVideoDataset(
        f"{lab.results}/clean/train.txt",
        [*first_steps, *steps],
        data_root=lab.root,
        test_mode=True,
    )


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_forked_worker_reads_the_same_clip_after_its_parent(lab, decoder):
    dataset = segments_of_train(lab, decoder=decoder)
    expected = dataset[0]["imgs"]
    forked = {"num_workers": 1, "timeout": 60, "multiprocessing_context": "fork"}
    (clip,) = DataLoader(dataset, batch_size=None, sampler=[0], **forked)
    assert np.array_equal(clip["imgs"], expected)


def random_samples(count, shape=(1, 3, 2, 4, 4)):
    """Samples with random clips of this shape, labelled 0, 1, 2 and so on."""
    return [
        {
            "inputs": torch.randint(0, 256, shape, dtype=torch.uint8),
            "data_samples": ActionDataSample(metainfo={"narration_id": f"a_{i}"}).set_gt_label(i),
        }
        for i in range(count)
    ]


@pytest.mark.parametrize("sides", [[4, 4, 4], [4, 6]], ids=["one shape", "two shapes"])
def test_a_batch_equals_that_of_pseudo_collate_before_and_after_pickling(sides):
    samples = [random_samples(1, (1, 3, 2, side, side))[0] for side in sides]
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


@pytest.mark.parametrize("sides", [[4, 4, 4], [4, 6]], ids=["one shape", "two shapes"])
def test_each_clip_of_a_batch_is_pinned_and_what_is_pinned_reaches_the_model(sides, monkeypatch):
    # Without a GPU nothing can be pinned, so a copy stands for a pinned tensor.
    pinned = []

    def keep_copy(clip):
        pinned.append(clip.clone())
        return pinned[-1]

    monkeypatch.setattr(torch.Tensor, "pin_memory", keep_copy)
    samples = [random_samples(1, (1, 3, 2, side, side))[0] for side in sides]
    batch = pickle.loads(pickle.dumps(collate_in_one(samples)))
    # Torch 2.13 first asks whether an object pins itself, 2.7.1 first whether it is a sequence; see
    # torch/utils/data/_utils/pin_memory.py. A list that does not pin itself is equal to both.
    assert not any(hasattr(part, "pin_memory") for part in (batch, *batch.values()))
    got = pin_memory(batch)
    assert len(pinned) == len(sides)
    assert all(clip is copy for clip, copy in zip(got["inputs"], pinned, strict=True))
    # MMEngine moves the clips of the list that it gets.
    moved, move = [], torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", lambda t, *a, **k: moved.append(t) or move(t, *a, **k))
    preprocessor = MODELS.build({"type": "ActionDataPreprocessor", "format_shape": "NCTHW"})
    on_device = preprocessor.to("meta").cast_data(got)
    assert all(any(clip is copy for clip in moved) for copy in pinned)
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
def test_18_workers_with_batches_of_128_keep_few_files_open():
    assert apart(count_open_files) < 300


@pytest.fixture
def clip_of(lab):
    """A function that runs steps on a video, and returns the clip and a random number after it."""

    def decode(steps, seed=0, decoder="pyav"):
        sample = open_segment(lab, decoder=decoder) | {"frame_inds": np.array([3, 9, 15])}
        np.random.seed(seed)
        for step in steps:
            sample = TRANSFORMS.build(step).transform(sample)
        return np.stack(sample["imgs"]), np.random.rand()

    return decode


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    ("crop_type", "crop"),
    [
        ("random", {"type": "RandomCrop", "size": 40}),
        ("centre", {"type": "CenterCrop", "crop_size": 40}),
    ],
)
def test_a_crop_equals_mmaction2_s_with_the_same_random_numbers(clip_of, crop_type, crop, decoder):
    uncropped = {"type": "DecodeSegment", "short_side": (48, 60)}
    cropped = uncropped | {"crop": crop_type, "size": 40, "flip_ratio": 0.5}
    for seed in range(4):
        ours, number_after_ours = clip_of([cropped], seed, decoder)
        theirs, number_after_theirs = clip_of(
            [uncropped, crop, {"type": "Flip", "flip_ratio": 0.5}], seed, decoder
        )
        assert ours.shape == theirs.shape == (3, 40, 40, 3)
        assert number_after_ours == number_after_theirs
        # The values go to 255. A crop of another place differs by 20 and more.
        assert np.abs(ours.astype(int) - theirs).mean() < 6


@pytest.mark.parametrize("frame_size", [(256, 455), (57, 101), (1080, 1920)])
def test_resized_crops_have_the_area_and_aspect_ratio_of_the_recipe(frame_size):
    np.random.seed(0)
    crop = Crop("resized", size=160, area=(0.5, 1.0), flip_ratio=0.5)
    height, width = frame_size
    sizes, windows = zip(*(crop.draw(frame_size) for _ in range(400)), strict=True)
    assert set(sizes) == {(160, 160)}
    assert all(0 <= w.top <= height - w.height for w in windows)
    assert all(0 <= w.left <= width - w.width for w in windows)
    assert 0.4 < np.mean([w.flipped for w in windows]) < 0.6
    # If no draw fits inside the frame, the crop is its largest square.
    drawn = [w for w in windows if not w.width == w.height == height]
    assert len({(w.top, w.left) for w in drawn}) > 20
    areas = np.array([w.height * w.width / (height * width) for w in drawn])
    ratios = np.array([w.width / w.height for w in drawn])
    # Sides are rounded to even pixels.
    tolerance = 4 / height
    assert areas.min() > 0.5 - tolerance and areas.max() > 0.6
    assert ratios.min() > 3 / 4 - tolerance and ratios.max() < 4 / 3 + tolerance


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"crop_type": "middle", "size": 32},
            "crop is 'middle'; expected one of centre, random, resized",
        ),
        ({"crop_type": "random"}, "crop is 'random' and size None; expected both or neither"),
        ({"size": 32}, "crop is None and size 32; expected both or neither"),
        (
            {"crop_type": "random", "size": 64, "short_side": 48},
            "size is 64, but a frame is scaled to 85x48; expected",
        ),
    ],
    ids=["unknown crop", "no size", "no crop", "crop larger than the frame"],
)
def test_arguments_that_contradict_each_other_are_refused(arguments, words):
    with pytest.raises(EpicError, match=words):
        Crop(**arguments).draw((256, 455))


SQUARE = {"scale": (24, 24), "keep_ratio": False}
# These are all steps of MMAction2 that change frames. `Fuse` carries out a lazy one before it.
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
def test_a_step_of_mmaction2_changes_a_clip_alike_with_the_same_seed(lab, step):
    """ColorJitter failed in NumPy 2, and steps that draw from torch or Python were not seeded."""
    lazy = [{"type": "Resize", "lazy": True, **SQUARE}] if step["type"] == "Fuse" else []
    datasets = [segments_of_train(lab, *lazy, step) for _ in range(2)]
    for number in (0, 6):
        first, second = (np.stack(dataset[number]["imgs"]) for dataset in datasets)
        assert first.dtype == np.uint8 and first.ndim == 4
        assert np.array_equal(first, second)
