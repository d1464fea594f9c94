import numpy as np
import pytest

import epic100.mmaction  # noqa: F401
from epic100.clips.dataset import EpicSegmentVideoDataset
from epic100.clips.sampling import VideoPoolSampler


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Thirty videos of 1 to 40 segments each."""
    path = tmp_path_factory.mktemp("list") / "train.txt"
    counts = np.random.default_rng(0).integers(1, 40, 30)
    lines = [f"P01/P01_{v:02d}.MP4 {90 * i} {90 * i + 80} 0 0\n"
             for v, count in enumerate(counts) for i in range(count)]  # fmt: skip
    path.write_text("".join(lines))
    return EpicSegmentVideoDataset(str(path), pipeline=[], test_mode=True)


def test_every_segment_is_drawn_once_an_epoch_in_another_order_each_time(data):
    sampler = VideoPoolSampler(data, videos_at_once=4, seed=3)
    orders = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
        assert sorted(orders[-1]) == list(range(len(data)))
    assert orders[0] != orders[1] != orders[2]
    sampler.set_epoch(1)
    assert list(sampler) == orders[1]
    assert list(VideoPoolSampler(data, videos_at_once=4, seed=4)) != orders[0]


@pytest.mark.parametrize("size", [1, 4, 8])
def test_no_more_videos_than_the_pool_holds_are_under_way_at_once(data, size):
    order = data.video_of[list(VideoPoolSampler(data, videos_at_once=size, seed=0))]
    first = {v: np.argmax(order == v) for v in range(data.videos)}
    last = {v: len(order) - 1 - np.argmax(order[::-1] == v) for v in range(data.videos)}
    under_way = [
        sum(first[v] <= place <= last[v] for v in range(data.videos)) for place in range(len(order))
    ]
    assert max(under_way) == size


@pytest.mark.parametrize("round_up", [True, False])
def test_ranks_share_one_order_between_them(data, round_up, monkeypatch):
    shares = []
    for rank in range(3):
        monkeypatch.setattr("mmengine.dataset.sampler.get_dist_info", lambda rank=rank: (rank, 3))
        sampler = VideoPoolSampler(data, videos_at_once=4, seed=1, round_up=round_up)
        shares.append(list(sampler))
        assert len(shares[-1]) == len(sampler)
    drawn = [i for share in shares for i in share]
    assert set(drawn) == set(range(len(data)))
    assert len(drawn) - len(data) in (range(3) if round_up else [0])
    together = [i for turn in zip(*shares, strict=False) for i in turn]
    assert together == sampler.order().tolist()[: len(together)] or round_up
