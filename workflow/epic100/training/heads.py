"""Beside the plain cross-entropy: label smoothing, the long tail, dropout, averaged weights."""

from mmengine.config import Config
from mmengine.hooks import EMAHook
from torch import Tensor

from epic100.training.device import bare


def fit_head(config: Config, settings, pairs: str) -> None:
    """Put the `train:` section's head settings into the MMEngine config; None leaves it as it is.

    `pairs`: path of the pair table, whose counts are the prior of `logit_adjustment`.
    """
    head = config.model.cls_head
    if settings.label_smoothing is not None:
        head.label_smooth_eps = settings.label_smoothing
    if settings.dropout is not None:
        head.dropout_ratio = settings.dropout
    if settings.logit_adjustment:
        head.loss_cls = {
            "type": "LogitAdjustedLoss",
            "pairs": pairs,
            "tau": settings.logit_adjustment,
        }
    if settings.ema is not None:
        hook = {
            "type": "EMAHook",
            "ema_type": "ExponentialMovingAverage",
            "momentum": 1 - settings.ema,
        }
        config.custom_hooks = [*(config.get("custom_hooks") or []), hook]


def final_weights(runner) -> dict[str, Tensor]:
    """The weights that training ends in, on the CPU: the average where one was kept."""
    model = bare(runner.model)
    for hook in runner.hooks:
        if isinstance(hook, EMAHook):
            model = hook.ema_model.module
    return {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}
