"""Pipeline steps: opening, decoding and cropping clips, also of films with gaps in their times."""

import pickle
import sys

import numpy as np
import pytest
from mmaction.registry import TRANSFORMS
from torch.utils.data import DataLoader

import epic100.mmaction  # noqa: F401
from epic100.base.errors import EpicError
from epic100.clips.crop import Crop
from epic100.clips.dataset import EpicSegmentVideoDataset
from epic100.clips.transforms import READERS, DecodeSegment, OpenSegment
from epic100.video.index import index_path, write_indexes
from epic100.video.reader import FrameError
from support.checkout import needs_decord
from support.scanned import index_of
from support.tricky_videos import encode

DECODERS = [pytest.param(name, marks=needs_decord if name == "decord" else ()) for name in READERS]
SEGMENT = {"start_index": 0, "total_frames": 50, "modality": "RGB", "narration_id": "P02_101_7"}


def open_segment(lab, decoder="pyav", has_index=True):
    """Open a video of the lab of 50 fps with `OpenSegment`, and return the step's result."""
    path = str(lab.videos["P02_101"].path(lab.root))
    index_dir = f"{lab.results}/scan" if has_index else None
    return OpenSegment(decoder, index_dir).transform({"filename": path, **SEGMENT})


@pytest.mark.parametrize(
    ("decoder", "words"),
    [
        ("an eye", f"'an eye'; expected {' or '.join(map(repr, READERS))}"),
        ("decord", "'decord', which is not installed.*expected 'pyav'"),
    ],
)
def test_an_unknown_or_missing_decoder_is_rejected(monkeypatch, decoder, words):
    # With None here, an import fails as if the package were not installed.
    monkeypatch.setitem(sys.modules, "decord", None)
    with pytest.raises(EpicError, match=words):
        OpenSegment(decoder=decoder)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("has_index", [False, True])
def test_the_rate_is_that_of_the_file(lab, decoder, has_index):
    assert open_segment(lab, decoder, has_index)["avg_fps"] == pytest.approx(50.0)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    ("start", "frame", "error", "words"),
    [
        pytest.param(100, 150, EpicError, r"P02_101_7: .*\[100, 150\)", id="after the segment"),
        pytest.param(4990, 5000, FrameError, r"P02_101_7: .*P02_101\.MP4", id="after the file"),
    ],
)
def test_the_missing_frame_s_error_names_its_segment(lab, decoder, start, frame, error, words):
    sample = open_segment(lab, decoder)
    sample |= {"frame_inds": np.array([start, frame]), "start_index": start}
    with pytest.raises(error, match=words):
        DecodeSegment().transform(sample)


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_short_side_is_of_a_closed_interval(lab, decoder):
    sample = open_segment(lab, decoder) | {"frame_inds": np.arange(3)}
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


# The numbers of the frames that each film has. Frame i is shown at i / 60 s and is all grey i. A
# phone makes the uneven film in the dark.
FILMS = {
    "even": np.arange(200),
    "gap": np.delete(np.arange(200), np.s_[80:120]),
    "uneven": np.sort(np.random.default_rng(1).choice(np.arange(1, 199), 120, replace=False)),
}
FILMS["uneven"][[0, -1]] = 0, 199


@pytest.fixture(scope="module")
def open_film(tmp_path_factory):
    """A function that opens a segment of a film of `FILMS`, by numbers of frames or by seconds."""
    folder = tmp_path_factory.mktemp("films")
    for name, numbers in FILMS.items():
        frames = [np.full((64, 96, 3), number, np.uint8) for number in numbers]
        encode(folder / f"{name}.MP4", source=frames, times=(500 * numbers).tolist(), qp=1)
    indexes = {name: index_of(folder / f"{name}.MP4") for name in FILMS}
    write_indexes(indexes, index_path(folder / "scan", folder.name))

    def opened(film, decoder="pyav", frames=None, seconds=None):
        start, stop = frames or map(int, indexes[film].frames_between(*seconds))
        segment = {**SEGMENT, "start_index": start, "total_frames": stop - start}
        sample = {"filename": str(folder / f"{film}.MP4"), **segment}
        return OpenSegment(decoder, str(folder / "scan")).transform(sample)

    return opened


def shown(sample, film):
    """Decode a sample, and return the numbers of the frames that a film of `FILMS` shows."""
    frames = DecodeSegment().transform(sample)["imgs"]
    numbers = FILMS[film][sample["frame_inds"]]
    # The greys of a file go from 16 to 235, so the encoder may change a grey by 1.
    assert np.abs([frame.mean() for frame in frames] - numbers).max() <= 1.5
    return numbers


SAMPLERS = [
    {"type": "SampleFrames", "clip_len": 8, "frame_interval": 4, "test_mode": True},
    {"type": "UniformSample", "clip_len": 8, "test_mode": True},
    {"type": "PublishedFrames", "rule": "avion", "clip_len": 16, "target_fps": 30.0},
    {"type": "PublishedFrames", "rule": "lavila", "clip_len": 16},
    {"type": "PublishedFrames", "rule": "slowfast", "clip_len": 32, "frame_interval": 2},
    {"type": "PublishedFrames", "rule": "c1", "clip_len": 8},
]


@pytest.mark.parametrize(
    "film, has_seconds",
    [
        pytest.param("gap", False, id="gap, by frames"),
        pytest.param("gap", True, id="gap, by seconds"),
        pytest.param("uneven", True, id="uneven, by seconds"),
    ],
)
@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda step: step.get("rule", step["type"]))
def test_a_film_with_gaps_shows_the_same_moments(open_film, film, has_seconds, sampler):
    step = TRANSFORMS.build(sampler)
    # The segments are before, around and after the gap.
    for start, stop in ((0.25, 1.25), (1.0, 2.75), (2.25, 3.0)):
        stated = {"start_seconds": start, "stop_seconds": stop} if has_seconds else {}
        even, sample = (
            step.transform(open_film(name, seconds=(start, stop)) | stated)
            for name in ("even", film)
        )
        # The film shows the latest of its frames so far.
        latest = FILMS[film][np.searchsorted(FILMS[film], even["frame_inds"], "right") - 1]
        assert np.abs(shown(sample, film) - latest).max() <= 3


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("cut", [0, 10, 30], ids="narrowed by {}".format)
def test_a_narrowed_segment_shows_its_own_frames(open_film, decoder, cut):
    # Of the 80 frames [60, 140), the film lacks 40.
    sample = open_film("gap", decoder, (60, 100))
    assert (sample["start_index"], sample["total_frames"]) == (60, 80)
    moments = np.arange(60 + cut, 140 - cut)
    sample |= {"start_index": 60 + cut, "total_frames": 80 - 2 * cut, "frame_inds": moments}
    # Frame 79 is shown during the gap.
    expected = np.where(moments < 120, np.minimum(moments, 79), moments)
    assert shown(sample, "gap").tolist() == expected.tolist()


@pytest.mark.parametrize("change", [-1, 1], ids=["before its start", "after its end"])
def test_a_frame_outside_the_segment_is_an_error(open_film, change):
    sample = open_film("gap", frames=(60, 100))
    sample["start_index"] += change
    sample["frame_inds"] = sample["start_index"] + np.array([0, 79])
    with pytest.raises(EpicError, match=r"P02_101_7: frames (59-138|61-140) .*may narrow a seg"):
        DecodeSegment().transform(sample)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("start", [0, 40, 80, 120])
def test_frames_are_converted_only_around_a_gap(open_film, decoder, start):
    sample = open_film("gap", decoder, (start, start + 30))
    assert (sample["start_index"], sample["total_frames"]) == (start, 30)
    # A gap does not lower the rate.
    assert sample["avg_fps"] == pytest.approx(60)
    frames = np.arange(start, start + 30, 7)
    assert shown(sample | {"frame_inds": frames}, "gap").tolist() == FILMS["gap"][frames].tolist()


def test_a_pickled_step_has_no_open_files(lab):
    step = OpenSegment(index_dir=f"{lab.results}/scan")
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
def test_a_forked_worker_reads_the_same_clip(lab, decoder):
    dataset = segments_of_train(lab, decoder=decoder)
    expected = dataset[0]["imgs"]
    forked = {"num_workers": 1, "timeout": 60, "multiprocessing_context": "fork"}
    (clip,) = DataLoader(dataset, batch_size=None, sampler=[0], **forked)
    assert np.array_equal(clip["imgs"], expected)


@pytest.fixture
def clip_of(lab):
    """A function that runs steps on a video, and returns the clip and a random number after it."""

    def decode(steps, seed=0, decoder="pyav"):
        sample = open_segment(lab, decoder) | {"frame_inds": np.array([3, 9, 15])}
        np.random.seed(seed)
        for step in steps:
            sample = TRANSFORMS.build(step).transform(sample)
        return np.stack(sample["imgs"]), np.random.rand()

    return decode


@pytest.mark.parametrize(
    ("decoder", "crop_type", "crop"),
    [
        ("pyav", "random", {"type": "RandomCrop", "size": 40}),
        ("pyav", "centre", {"type": "CenterCrop", "crop_size": 40}),
        pytest.param("decord", "random", {"type": "RandomCrop", "size": 40}, marks=needs_decord),
    ],
)
def test_a_crop_equals_mmaction2_s(clip_of, decoder, crop_type, crop):
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
def test_resized_crops_have_recipe_s_area_and_ratio(frame_size):
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
def test_arguments_that_contradict_each_other_are_rejected(arguments, words):
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
def test_an_mmaction2_step_keeps_clips_consistent(lab, step):
    """ColorJitter failed in NumPy 2, and steps that draw from torch or Python were not seeded."""
    lazy = [{"type": "Resize", "lazy": True, **SQUARE}] if step["type"] == "Fuse" else []
    datasets = [segments_of_train(lab, *lazy, step) for _ in range(2)]
    for number in (0, 6):
        first, second = (np.stack(dataset[number]["imgs"]) for dataset in datasets)
        assert first.dtype == np.uint8 and first.ndim == 4
        assert np.array_equal(first, second)
