"""What is drawn at random in a training, as functions of what is known at any moment."""

from typing import Any

import torch
from mmaction.registry import HOOKS
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from epic100.training.hook_order import PRIORITIES


@HOOKS.register_module()
class SampleSeedHook(Hook):
    """Augmentation and dropout as functions of (seed, epoch, sample) and (seed, iteration, rank).

    MMEngine restores no random state on resume and seeds workers alike every epoch. With the seeds
    drawn anew here nothing needs restoring, and the number of workers changes no result.
    """

    priority = PRIORITIES["SampleSeedHook"]

    def before_train_epoch(self, runner: Runner) -> None:
        """Tell the dataset, also in running workers, which epoch it is."""
        runner.train_dataloader.dataset.set_epoch(runner.epoch)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed what the model draws in this iteration."""
        torch.manual_seed((runner.seed << 32) + (runner.iter << 8) + get_rank())
