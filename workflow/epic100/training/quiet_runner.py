"""MMEngine's Runner with less output on the terminal and with BatchNorm frozen if configured."""

import logging
from typing import Any

from mmengine.logging import MMLogger
from mmengine.runner import Runner
from torch import nn

from epic100.training.batch_norm import freeze_scales


class QuietRunner(Runner):
    """MMEngine's Runner, but its info lines go only to its log file in the work directory.

    The terminal and the rule's log get its warnings.
    """

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build MMEngine's logger and limit what it prints on the terminal."""
        logger = super().build_logger(*args, **kwargs)
        quiet(logger)
        return logger

    def build_model(self, model: Any) -> nn.Module:
        """Build the model, and freeze BatchNorm if configured."""
        built = super().build_model(model)
        hooks = self.cfg.get("custom_hooks") or []
        if any(hook["type"] == "FrozenBatchNormHook" for hook in hooks):
            freeze_scales(built)
        return built


def quiet(logger: MMLogger) -> None:
    """Let only warnings of this logger reach the terminal."""
    for handler in logger.handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.setLevel(max(handler.level, logging.WARNING))
