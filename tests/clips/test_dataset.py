"""The dataset of segments: what a sample holds, and what happens if a clip does not decode."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

import epic100.mmaction  # noqa: F401
from epic100.base.errors import EpicError
from epic100.base.text_table import write_table
from epic100.clips.dataset import EpicSegmentVideoDataset
from epic100.data.pairs import read_pairs
from epic100.data.segment_list import read_segments
from epic100.minikitchen.damage import zero_block
from epic100.video.reader import FrameError

pytestmark = pytest.mark.slow


def dataset(lab, list_of_segments=None, **options):
    """Build the dataset of the lab's train list, or of another list."""
    pipeline = [
        {"type": "OpenSegment", "index_dir": f"{lab.results}/scan"},
        {
            "type": "SampleFrames",
            "clip_len": 13,
            "frame_interval": 6,
            "num_clips": 1,
            "out_of_bound_opt": "repeat_last",
        },
        {"type": "DecodeSegment", "short_side": (40, 60)},
        {"type": "RandomCrop", "size": 36},
        {"type": "FormatShape", "input_format": "NCTHW"},
        {"type": "PackActionInputs", "meta_keys": ("narration_id", "verb", "noun")},
    ]
    defaults = {"pairs": f"{lab.results}/clean/pairs.tsv", "data_root": lab.root}
    path = list_of_segments or f"{lab.results}/clean/train.txt"
    return EpicSegmentVideoDataset(str(path), pipeline, **defaults | options)


def ids_of(data):
    """The narration_ids of all segments, in order."""
    return [data.narration_id(index) for index in range(len(data))]


def test_a_sample_has_frames_and_pair_of_segment(lab):
    data = dataset(lab)
    segments = read_segments(f"{lab.results}/clean/train.txt")
    pairs = read_pairs(f"{lab.results}/clean/pairs.tsv")
    assert len(data) == len(segments)
    for i, row in enumerate(segments.itertuples()):
        info = data.get_data_info(i)
        assert info["filename"] == f"{lab.root}/{row.path}"
        assert (info["start_index"], info["total_frames"]) == (row.start, row.stop - row.start)
        assert pairs[info["label"]][:2] == (row.verb, row.noun)
        assert info["narration_id"] == row.narration_id


@pytest.mark.parametrize("suffix, delimiter", [("csv", ","), ("tsv", "\t")])
def test_a_sample_has_one_s_own_columns(lab, tmp_path, suffix, delimiter):
    names = read_segments(f"{lab.results}/clean/train.txt")["narration_id"].tolist()
    table = tmp_path / f"hands.{suffix}"
    # The rows of the table stand in another order.
    rows = [[name, i, i / 4, f"hand {i}"] for i, name in enumerate(names)][::-1]
    write_table(table, ["narration_id", "hand", "share", "words"], rows, delimiter)
    columns = ["hand", "share", "words"]
    data = dataset(lab, table=str(table), columns=columns)
    assert data.get_data_info(3)["hand"] == 3
    sample = data[3]["data_samples"]
    assert [sample.get(name) for name in columns] == [3, 0.75, "hand 3"]
    assert [type(sample.get(name)) for name in columns] == [int, float, str]
    with pytest.raises(EpicError, match=rf"hands.{suffix}: line 1: column contact missing"):
        dataset(lab, table=str(table), columns=["contact"])
    write_table(table, ["narration_id", "hand"], [row[:2] for row in rows[1:]], delimiter)
    with pytest.raises(EpicError, match=rf"hands.{suffix}: no row for {names[-1]} \(1 of 1 seg"):
        dataset(lab, table=str(table), columns=["hand"])


def test_indexes_are_read_once_wherever_the_videos_are(lab, tmp_path):
    for place in ("P01/videos/P01_01.mp4", "P02_101.MP4", "P03/P03_07.mp4"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        video = lab.videos[Path(place).stem]
        shutil.copyfile(video.path(lab.root), tmp_path / place)
    shutil.copytree(f"{lab.results}/scan", tmp_path / "scan")
    data = dataset(lab, data_root=str(tmp_path), index_dir=str(tmp_path / "scan"))
    # From now on only the indexes in memory are left.
    shutil.rmtree(tmp_path / "scan")
    expected = dataset(lab)
    for number in range(0, len(data), 5):
        assert np.array_equal(data[number]["inputs"], expected[number]["inputs"])


@pytest.fixture(scope="module")
def broken_root(lab, tmp_path_factory):
    """The lab's videos, one of which, P02_101, was overwritten after the scan."""
    root = shutil.copytree(lab.root, tmp_path_factory.mktemp("broken") / "videos")
    zero_block(lab.videos["P02_101"].path(root), 0.0, 10**9)
    return str(root)


@pytest.mark.parametrize("test_mode", [False, True])
def test_a_broken_clip_is_replaced_and_logged(lab, broken_root, caplog, test_mode):
    data = dataset(lab, data_root=broken_root, max_broken=1.0, test_mode=test_mode)
    ids = ids_of(data)
    broken_ids = [name for name in ids if name.startswith("P02_101_")]
    for i, wanted_id in enumerate(ids):
        sample = data[i]["data_samples"]
        is_broken = wanted_id in broken_ids
        assert (sample.narration_id != wanted_id) == is_broken
        assert sample.narration_id not in broken_ids
        # Only a metric needs to know which samples are replacements.
        assert sample.get("broken", False) == (is_broken and test_mode)
    assert [ids[i] for i in data.broken.by_segment.nonzero()] == broken_ids
    # Each broken segment is tried twice before another one is drawn.
    assert data.broken.drawn > data.broken.by_segment.sum() >= 2 * len(broken_ids)
    assert all(f"drawn: {name}: " in caplog.text for name in broken_ids)


def clips_of_two_epochs(data, workers, persistent=False):
    loader = DataLoader(
        data, num_workers=workers, persistent_workers=persistent, batch_size=None, shuffle=False
    )
    epochs = []
    for epoch in range(2):
        data.set_epoch(epoch)
        epochs.append(np.stack([sample["inputs"].numpy() for sample in loader]))
    return epochs


def test_clips_depend_on_seed_epoch_and_sample_alone(lab, broken_root):
    options = {"data_root": broken_root, "max_broken": 1.0, "part": 6}
    data = dataset(lab, **options)
    expected = clips_of_two_epochs(data, workers=0)
    assert data.broken.by_segment.any()
    for persistent in (False, True):
        assert np.array_equal(expected, clips_of_two_epochs(data, workers=2, persistent=persistent))
    assert not np.array_equal(expected[0], expected[1])
    other_seed = clips_of_two_epochs(dataset(lab, seed=1, **options), workers=0)
    assert not np.array_equal(expected[0], other_seed[0])


@pytest.mark.parametrize(
    "max_broken, workers, words",
    [
        pytest.param(
            0.02,
            2,
            r"more than a share of 0\.02: P02_101_\d+, P02_101_.*Scan",
            id="some are tolerated",
        ),
        pytest.param(0.0, 0, r"^1 of \d+ clips do not decode", id="none is tolerated"),
    ],
)
def test_too_many_broken_clips_stop_the_run(lab, broken_root, max_broken, workers, words):
    data = dataset(lab, data_root=broken_root, max_broken=max_broken)
    with pytest.raises(EpicError, match=words):
        clips_of_two_epochs(data, workers)


def test_a_replacement_is_sought_ten_times(lab, tmp_path):
    data = dataset(lab, data_root=str(tmp_path), max_broken=1.0)
    with pytest.raises(FrameError, match="no clip of 10 other segments decodes"):
        data[0]


def test_a_foreign_pair_is_rejected_in_training_only(lab, tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("P01/P01_01.MP4 0 60 96 299 P01_01_0\n")
    assert dataset(lab, path, test_mode=True).get_data_info(0)["label"] == -1
    with pytest.raises(EpicError, match=r"verb 96, noun 299.*pairs\.tsv"):
        dataset(lab, path)


def test_a_list_without_segments_is_rejected(lab, tmp_path):
    (tmp_path / "train.txt").touch()
    with pytest.raises(EpicError, match=r"train\.txt: no segments.*dropped\.tsv"):
        dataset(lab, tmp_path / "train.txt")


def test_a_part_of_the_list_is_spread_evenly(lab):
    all_ids = ids_of(dataset(lab))
    part_ids = ids_of(dataset(lab, part=5))
    # The lab has 17 segments, and 17 / 5 is 3.4.
    assert [all_ids.index(name) for name in part_ids] == [0, 3, 6, 10, 13]
    assert ids_of(dataset(lab, part=99)) == all_ids
