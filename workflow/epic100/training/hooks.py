"""Seeds for everything random in training, so that a run can resume at any batch."""

from typing import Any

import numpy as np
import torch
from mmaction.registry import HOOKS
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

# The order in which MMEngine calls the hooks: the lowest number first. Its own have these numbers:
# RuntimeInfoHook 10; IterTimerHook, DistSamplerSeedHook, SyncBuffersHook and EMAHook 50; LoggerHook
# 60; ParamSchedulerHook 70. If two numbers are equal, the default hook runs first.
PRIORITIES = {
    "SampleSeedHook": 10,  # before any random number is drawn
    "FrozenBatchNormHook": 12,
    "PooledStatisticsHook": 49,  # before SyncBuffersHook
    "CompileHook": 51,
    "AccumulateHook": 52,
    "TelemetryHook": 71,
    "SafeCheckpointHook": 90,  # saves the result of all others; may end training
}


@HOOKS.register_module()
class SampleSeedHook(Hook):
    """Seed augmentation with (seed, epoch, sample), and dropout with (seed, iteration, rank).

    MMEngine restores no random state on resume and gives workers the same seeds in every epoch.
    With these seeds nothing needs restoring, and the number of workers does not change the result.
    """

    priority = PRIORITIES["SampleSeedHook"]

    def before_train_epoch(self, runner: Runner) -> None:
        """Pass the epoch to the dataset, also in workers that are already running."""
        runner.train_dataloader.dataset.set_epoch(runner.epoch)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed the random draws of the model in this iteration."""
        torch.manual_seed((runner.seed << 32) + (runner.iter << 8) + get_rank())
        np.random.seed([runner.seed, runner.iter, get_rank()])  # TRN's head draws from NumPy
