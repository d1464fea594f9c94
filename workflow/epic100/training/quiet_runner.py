"""MMEngine's Runner with less on the terminal."""

import logging
from typing import Any

from mmengine.logging import MMLogger
from mmengine.runner import Runner


class QuietRunner(Runner):
    """MMEngine's Runner, whose many lines go to its file in the work directory; the terminal and
    the rule's log get its warnings."""

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """As MMEngine does, but with less on the terminal."""
        logger = super().build_logger(*args, **kwargs)
        quiet(logger)
        return logger


def quiet(logger: MMLogger) -> None:
    """Let only warnings of this logger go to the terminal."""
    for handler in logger.handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.setLevel(max(handler.level, logging.WARNING))
