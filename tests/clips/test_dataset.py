import shutil
from pathlib import Path

import numpy as np
import pytest
from mmaction.registry import TRANSFORMS
from torch.utils.data import DataLoader

import epic100.mmaction  # noqa: F401
from epic100.base.errors import EpicError
from epic100.clips.dataset import EpicSegmentVideoDataset
from epic100.clips.transforms import DecodeSegment, OpenSegment
from epic100.minikitchen.damage import zero_block
from epic100.segments.pairs import read_pairs
from epic100.segments.segment_list import read_segments
from epic100.video.index import build_index
from epic100.video.reader import FrameError
from support.checkout import DECODERS
from support.tricky_videos import encode

pytestmark = pytest.mark.slow


SAMPLE = {
    "type": "SampleFrames",
    "clip_len": 13,
    "frame_interval": 6,
    "num_clips": 1,
    "out_of_bound_opt": "repeat_last",
}


def pipeline(lab):
    return [
        {"type": "OpenSegment", "index_dir": f"{lab.results}/scan"},
        SAMPLE,
        {"type": "DecodeSegment", "short_side": (40, 60)},
        {"type": "RandomCrop", "size": 36},
        {"type": "FormatShape", "input_format": "NCTHW"},
        {"type": "PackActionInputs", "meta_keys": ("narration_id", "verb", "noun")},
    ]


def dataset(lab, steps=None, ann_file=None, **kwargs):
    """The dataset of the clean list of train, or of another list."""
    spec = {"pairs": f"{lab.results}/clean/pairs.tsv", "data_root": lab.root, **kwargs}
    listed = str(ann_file or f"{lab.results}/clean/train.txt")
    return EpicSegmentVideoDataset(listed, pipeline(lab) if steps is None else steps, **spec)


def test_a_sample_says_where_its_segment_lies_and_which_pair_it_is(lab):
    data = dataset(lab)
    listed = read_segments(f"{lab.results}/clean/train.txt")
    pairs = read_pairs(f"{lab.results}/clean/pairs.tsv")
    assert len(data) == len(listed)
    for i, row in enumerate(listed.itertuples()):
        info = data.get_data_info(i)
        assert info["filename"] == f"{lab.root}/{row.path}"
        assert (info["start_index"], info["total_frames"]) == (row.start, row.stop - row.start)
        assert pairs[info["label"]][:2] == (row.verb, row.noun)
        assert info["narration_id"] == row.narration_id


def test_indexes_are_read_before_workers_start_wherever_videos_are_and_never_again(lab, tmp_path):
    places = ("P01/videos/P01_01.mp4", "P02_101.MP4", "P03/P03_07.mp4")
    for place in places:
        video = lab.videos[Path(place).stem]
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(video.path(lab.root), tmp_path / place)
    shutil.copytree(f"{lab.results}/scan", tmp_path / "scan")
    data = dataset(lab, data_root=str(tmp_path), index_dir=str(tmp_path / "scan"))
    shutil.rmtree(tmp_path / "scan")
    some, expected = range(0, len(data), 5), dataset(lab)
    for number, clip in zip(some, DataLoader(data, None, sampler=some, num_workers=1), strict=True):
        assert np.array_equal(clip["inputs"], expected[number]["inputs"])
        info = data.get_data_info(number)
        assert info["filename"].removeprefix(f"{tmp_path}/") in places
        assert data.pipeline.transforms[0](info)["video_reader"].index.direct


@pytest.fixture(scope="module")
def phone_films(tmp_path_factory):
    """A film at a constant rate and as a phone in the dark makes it; picture i is of grey i."""
    shown = np.sort(np.random.default_rng(1).choice(240, 150, replace=False))
    shown[[0, -1]] = 0, 239
    root = tmp_path_factory.mktemp("phone")
    for name, numbers in (("even", np.arange(240)), ("uneven", shown)):
        source = [np.full((64, 96, 3), number, np.uint8) for number in numbers]
        times = [1001 * int(number) for number in numbers]
        encode(root / f"{name}.MP4", source=source, times=times, qp=1)
    return root, shown


@pytest.mark.parametrize(
    "sampler",
    [
        {"type": "SampleFrames", "clip_len": 8, "frame_interval": 4, "test_mode": True},
        {"type": "UniformSample", "clip_len": 8, "test_mode": True},
        {"type": "PublishedFrames", "rule": "avion", "clip_len": 8, "target_fps": 30.0},
    ],
    ids=lambda step: step["type"],
)
@pytest.mark.parametrize("decoder", DECODERS)
def test_a_clip_of_a_variable_rate_shows_what_it_shows_at_a_constant_one(
    phone_films, sampler, decoder
):
    root, shown = phone_films
    steps = [OpenSegment(decoder), TRANSFORMS.build(sampler), DecodeSegment()]
    index = {name: build_index(root / f"{name}.MP4") for name in ("even", "uneven")}
    assert index["even"].is_steady and not index["uneven"].is_steady
    for seconds in ((0.0, 1.5), (2.0, 4.5), (3.3, 7.0), (7.2, 8.1)):
        clips = {}
        for name in index:
            start, stop = map(int, index[name].frames_between(*seconds))
            sample = {"filename": str(root / f"{name}.MP4"), "modality": "RGB"}
            sample |= {"start_index": start, "total_frames": stop - start}
            for step in steps:
                sample = step.transform(sample)
            clips[name] = np.array([picture.mean() for picture in sample["imgs"]]).round()
        # The phone may have dropped the picture that the even film shows: then the one before it is
        # shown.
        expected = shown[np.searchsorted(shown, clips["even"], "right") - 1]
        assert np.abs(clips["uneven"] - expected).max() <= 3, (seconds, clips)


def inputs(data, workers, persistent=False):
    loader = DataLoader(
        data, num_workers=workers, persistent_workers=persistent, batch_size=None, shuffle=False
    )
    epochs = []
    for epoch in range(2):
        data.set_epoch(epoch)
        epochs.append(np.stack([sample["inputs"].numpy() for sample in loader]))
    return epochs


def test_augmentation_depends_on_epoch_and_sample_and_not_on_workers(lab):
    data = dataset(lab, part=6)
    alone = inputs(data, 0)
    # Another epoch has other clips.
    assert not np.array_equal(alone[0], alone[1])
    for workers, persistent in ((2, False), (2, True)):
        assert np.array_equal(alone, inputs(data, workers, persistent))
    assert not np.array_equal(alone[0], inputs(dataset(lab, part=6, seed=1), 0)[0])


@pytest.fixture(scope="module")
def rotten(lab, tmp_path_factory):
    """The lab's videos, one of them spoilt after the scan."""
    root = shutil.copytree(lab.root, tmp_path_factory.mktemp("rotten") / "videos")
    zero_block(lab.videos["P02_101"].path(root), 0.0, 10**9)
    return str(root)


@pytest.mark.parametrize("test_mode", [False, True])
def test_a_clip_that_does_not_decode_is_said_and_another_segment_stands_in(
    lab, rotten, caplog, test_mode
):
    """In test mode the stand-in is marked. Other videos stay open."""
    data = dataset(lab, data_root=rotten, max_broken=1.0, test_mode=test_mode)
    opened = data[0] and data.pipeline.transforms[0]._readers
    for i, wanted in enumerate(data.narration_ids):
        got = data[i]["data_samples"]
        stands_in = wanted.startswith("P02_101_")
        assert got.get("broken", False) == (stands_in and test_mode)
        assert (got.narration_id != wanted) == stands_in
        assert not got.narration_id.startswith("P02_101_")
    spoilt = [name for name in data.narration_ids if name.startswith("P02_101_")]
    assert [data.narration_ids[i] for i in data.broken.segments()] == spoilt
    assert data.broken.drawn > data.broken.count >= 2 * len(spoilt)
    said = caplog.text
    assert all(f"drawn: {name}: " in said for name in spoilt)
    assert opened is data.pipeline.transforms[0]._readers is not None


def test_a_stand_in_is_the_same_whatever_the_number_of_workers(lab, rotten):
    data = dataset(lab, data_root=rotten, max_broken=1.0, part=6)
    assert np.array_equal(inputs(data, 0), inputs(data, 2))
    assert data.broken.count > 0


def test_too_many_broken_clips_stop_the_run_with_a_list(lab, rotten):
    data = dataset(lab, data_root=rotten, max_broken=0.02)
    with pytest.raises(EpicError, match=r"more than a share of 0\.02: P02_101_\d+, P02_101_.*Scan"):
        inputs(data, 2)
    data = dataset(lab, data_root=rotten, max_broken=0.0)
    first = next(i for i, name in enumerate(data.narration_ids) if name.startswith("P02_101_"))
    with pytest.raises(EpicError, match="1 of 1 clips do not decode"):
        data[first]


def test_nothing_that_decodes_is_an_error_not_an_endless_search(lab, tmp_path):
    data = dataset(lab, data_root=str(tmp_path), max_broken=1.0)
    with pytest.raises(FrameError, match="no clip of 10 other segments decodes"):
        data[0]


def test_a_pair_that_train_lacks_is_label_minus_one_in_test_mode_and_an_error_in_training(
    lab, tmp_path
):
    (tmp_path / "list.txt").write_text("P01/P01_01.MP4 0 60 96 299 P01_01_0\n")
    data = dataset(lab, [], tmp_path / "list.txt", test_mode=True)
    assert data.get_data_info(0)["label"] == -1
    with pytest.raises(EpicError, match=r"verb 96, noun 299.*pairs\.tsv"):
        dataset(lab, [], tmp_path / "list.txt")


def test_an_empty_clean_list_is_a_clear_error(lab, tmp_path):
    (tmp_path / "train.txt").touch()
    with pytest.raises(EpicError, match=r"train\.txt: no segments.*dropped\.tsv"):
        dataset(lab, [], tmp_path / "train.txt")


def test_a_part_is_spread_evenly_and_the_same_each_time(lab):
    whole, part, again, more = (dataset(lab, [], part=part) for part in (None, 5, 5, 99))
    assert len(whole) == len(more) == 17
    assert part.narration_ids == again.narration_ids
    places = [whole.narration_ids.index(name) for name in part.narration_ids]
    assert places == [0, 3, 6, 10, 13]
