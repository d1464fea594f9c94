"""Orders in which segments are drawn, beside MMEngine's plain shuffle."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from mmaction.registry import DATA_SAMPLERS
from mmengine.dataset import DefaultSampler

from epic100.clips.dataset import EpicSegmentVideoDataset


@DATA_SAMPLERS.register_module()
class VideoPoolSampler(DefaultSampler):
    """Random segments out of a pool of few videos at a time, so that loaders find them open.

    A video that has given all its segments leaves the pool and the next one comes in. Every
    segment is drawn once an epoch; the order is a function of (seed, epoch) and differs from
    epoch to epoch. Neighbours in it share their video more often than in a plain shuffle, which
    makes batches less diverse: what that costs and gains is for the user to weigh
    (docs/performance.md).

    Args:
        dataset: an `EpicSegmentVideoDataset`.
        videos_at_once: size of the pool.
        kwargs: those of MMEngine's `DefaultSampler`, which also says how ranks share an order.
    """

    def __init__(self, dataset: EpicSegmentVideoDataset, videos_at_once: int = 8, **kwargs: Any):
        super().__init__(dataset, **kwargs)
        self.videos_at_once = videos_at_once

    def order(self) -> np.ndarray:
        """Segment numbers of this epoch, of all ranks together, int64 [len(dataset)]."""
        rng = np.random.default_rng([self.seed, self.epoch])
        by_video = np.argsort(self.dataset.video_of, kind="stable")
        bounds = np.searchsorted(self.dataset.video_of[by_video], np.arange(self.dataset.videos))
        groups = [rng.permutation(group).tolist() for group in np.split(by_video, bounds[1:])]
        waiting = [groups[i] for i in rng.permutation(len(groups))]
        pool: list[list[int]] = []
        drawn: list[int] = []
        while pool or waiting:
            while waiting and len(pool) < self.videos_at_once:
                pool.append(waiting.pop())
            # In proportion to what is left: long and short videos end at about the same time.
            left = np.cumsum([len(group) for group in pool])
            turn = int(np.searchsorted(left, rng.integers(left[-1]), side="right"))
            drawn.append(pool[turn].pop())
            if not pool[turn]:
                del pool[turn]
        return np.array(drawn, dtype=np.int64)

    def __iter__(self) -> Iterator[int]:
        """This rank's share of the order: every so-many-th segment."""
        order = np.resize(self.order(), self.total_size)  # the first ones once more, to round up
        return iter(order[self.rank :: self.world_size].tolist())
