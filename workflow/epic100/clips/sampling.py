"""A sampler that can replace MMEngine's plain shuffle."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from mmaction.registry import DATA_SAMPLERS
from mmengine.dataset import DefaultSampler

from epic100.clips.dataset import EpicSegmentVideoDataset


@DATA_SAMPLERS.register_module()
class VideoPoolSampler(DefaultSampler):
    """Draws random segments from a pool of a few videos, which the loaders can keep open.

    When all segments of a video have been drawn, the next video takes its place. Every segment is
    drawn once per epoch. The order depends on (seed, epoch) only, and differs between epochs.
    Neighbours come from the same video more often than in a plain shuffle, so batches are less
    diverse. docs/performance.md compares cost and gain.

    Args:
        dataset: An `EpicSegmentVideoDataset`.
        videos_at_once: Number of videos in the pool.
        **kwargs: Passed on to MMEngine's `DefaultSampler`, which also defines how ranks share an
            order.
    """

    def __init__(self, dataset: EpicSegmentVideoDataset, videos_at_once: int = 8, **kwargs: Any):
        super().__init__(dataset, **kwargs)
        self.videos_at_once = videos_at_once

    def order(self) -> np.ndarray:
        """Return this epoch's segment indices for all ranks together, int64 [len(dataset)]."""
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
            # In proportion to what is left: long and short videos then end at about the same time.
            left = np.cumsum([len(group) for group in pool])
            turn = int(np.searchsorted(left, rng.integers(left[-1]), side="right"))
            drawn.append(pool[turn].pop())
            if not pool[turn]:
                del pool[turn]
        return np.array(drawn, dtype=np.int64)

    def __iter__(self) -> Iterator[int]:
        """Yield this rank's share of the order: every `world_size`-th segment."""
        order = np.resize(self.order(), self.total_size)  # repeats the first ones to round up
        return iter(order[self.rank :: self.world_size].tolist())
