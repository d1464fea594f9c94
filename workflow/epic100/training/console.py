"""What a training says while it runs: how far it is, what each epoch brought, and warnings."""

import logging

from mmaction.registry import HOOKS
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from epic100.base.rule_log import Progress


class QuietRunner(Runner):
    """MMEngine's Runner, whose many lines go to its file in the work directory; the terminal and
    the rule's log get its warnings."""

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """As MMEngine does, but with less on the terminal."""
        logger = super().build_logger(*args, **kwargs)
        quiet(logger)
        return logger


def quiet(logger: MMLogger) -> None:
    """Let only warnings of this logger go to the terminal."""
    for handler in logger.handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.setLevel(max(handler.level, logging.WARNING))


@HOOKS.register_module()
class ProgressHook(Hook):
    """Shows segments done, segments a second (of all ranks), time left, loss and the share of this
    epoch's time spent waiting for data; and each epoch's row of `training.tsv` as a sentence.

    A resumed run counts what is left. Goes with HistoryHook, whose sums and rows it shows.
    """

    priority = "LOW"  # after HistoryHook, which stands before it; before a checkpoint may end all

    def __init__(self):
        self._bar: Progress | None = None

    def before_train(self, runner) -> None:
        """Begin to count."""
        loader = runner.train_dataloader
        batch = loader.batch_size * get_world_size()
        whole = len(loader) * batch
        if not loader.drop_last:
            whole = min(whole, len(loader.sampler) * get_world_size())
        done = runner.iter - runner.epoch * len(loader)
        left = (runner.max_epochs - runner.epoch) * whole - done * batch
        if is_main_process() and left > 0:
            self._bar = Progress("train", left, "segments")

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Count a batch."""
        sums = runner.message_hub.get_info("history")
        if self._bar is not None:
            self._bar.update(
                len(data_batch["data_samples"]) * get_world_size(),
                f"epoch {runner.epoch + 1}/{runner.max_epochs}, loss {runner.train_loop.loss:.4g}, "
                f"data {100 * sums['waited'] / sums['seconds']:.0f} %",
            )

    def after_whole_epoch(self, runner, metrics: dict) -> None:
        """Say what the epoch brought."""
        if self._bar is not None:
            row = runner.message_hub.get_info("history")["rows"][-1]
            print(sentence(row, runner.max_epochs), flush=True)

    def at_end(self, runner) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()


def sentence(row: dict, epochs: int) -> str:
    """A row of `training.tsv` in words."""
    parts = [f"loss {row['loss']:.4g}"]
    if row["action_top1"] is not None:
        parts += [
            f"{task} top-1 {row[f'{task}_top1']:.2f} %" for task in ("verb", "noun", "action")
        ]
    parts.append(f"{row['samples_per_s']:.1f} segments/s")
    parts.append(f"{100 * row['data_share']:.0f} % of the time waiting for data")
    return f"epoch {row['epoch']}/{epochs}: {', '.join(parts)}"
