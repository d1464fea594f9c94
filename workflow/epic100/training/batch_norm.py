"""BatchNorm in training: frozen, or with statistics pooled over processes."""

from typing import Any

import torch
from mmaction.registry import HOOKS
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from epic100.training.device import bare
from epic100.training.hooks import PRIORITIES


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """All BatchNorm layers of a model."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def freeze_scales(model: nn.Module) -> None:
    """Freeze scale and shift of every BatchNorm layer.

    Call it before DistributedDataParallel wraps the model, which waits for the gradients of all
    trainable parameters.
    """
    for layer in batch_norms(model):
        for parameter in layer.parameters():
            parameter.requires_grad_(False)


@HOOKS.register_module()
class FrozenBatchNormHook(Hook):
    """Keep BatchNorm as it starts: statistics, scale and shift.

    It does what epic-kitchens-slowfast does with `BN.FREEZE` (`freeze_fn` in
    video_model_builder.py). Scale and shift are frozen when the model is built (`QuietRunner`), the
    statistics here.
    """

    priority = PRIORITIES["FrozenBatchNormHook"]

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Undo `model.train()`, which is called at the start of each epoch."""
        for layer in batch_norms(bare(runner.model)):
            layer.eval()


@HOOKS.register_module()
class PooledStatisticsHook(Hook):
    """Pool BatchNorm's statistics over processes, as if one process had seen all batches.

    MMEngine's SyncBuffersHook, which runs after it, averages the buffers over processes. For
    variances this ignores that the means of the processes differ: the pooled variance is the mean
    of `var + mean ** 2` minus the square of the mean.
    """

    priority = PRIORITIES["PooledStatisticsHook"]

    def after_train_epoch(self, runner: Runner) -> None:
        """Add to each process's variance what the average over processes would miss."""
        for layer in batch_norms(bare(runner.model)):
            if layer.running_mean is None or layer.running_var is None:
                continue
            mean: torch.Tensor = layer.running_mean.clone()
            all_reduce(mean, op="sum")
            mean /= get_world_size()
            layer.running_var += layer.running_mean**2 - mean**2
