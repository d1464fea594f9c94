"""BatchNorm in a training: frozen, or its statistics pooled over processes."""

from typing import Any

import torch
from mmaction.registry import HOOKS
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from epic100.training.device import bare
from epic100.training.hook_order import PRIORITIES


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """All BatchNorm layers of a model."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def freeze_scales(model: nn.Module) -> None:
    """Let no BatchNorm layer learn; before DistributedDataParallel, which waits for gradients."""
    for layer in batch_norms(model):
        for parameter in layer.parameters():
            parameter.requires_grad_(False)


@HOOKS.register_module()
class FrozenBatchNormHook(Hook):
    """Keeps BatchNorm as it starts: statistics, scale and shift.

    As epic-kitchens-slowfast with `BN.FREEZE` (`freeze_fn` in video_model_builder.py). Scale and
    shift are frozen where the model is built (`QuietRunner`), the statistics here.
    """

    priority = PRIORITIES["FrozenBatchNormHook"]

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Undo `model.train()`, which each epoch begins with."""
        for layer in batch_norms(bare(runner.model)):
            layer.eval()


@HOOKS.register_module()
class PooledStatisticsHook(Hook):
    """Makes BatchNorm's statistics of several processes those of all their batches together.

    MMEngine's SyncBuffersHook, which comes after it, takes the mean over processes. Of variances
    that leaves out how the means of the processes differ: the variance of all is the mean of
    `var + mean ** 2`, less the square of the mean.
    """

    priority = PRIORITIES["PooledStatisticsHook"]

    def after_train_epoch(self, runner: Runner) -> None:
        """Put into each process's variance what the mean over processes is then short of."""
        for layer in batch_norms(bare(runner.model)):
            if layer.running_mean is None or layer.running_var is None:
                continue
            mean: torch.Tensor = layer.running_mean.clone()
            all_reduce(mean, op="sum")
            mean /= get_world_size()
            layer.running_var += layer.running_mean**2 - mean**2
