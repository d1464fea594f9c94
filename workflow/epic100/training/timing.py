"""Where an iteration's time goes: waiting for data, or computing."""

from mmaction.registry import HOOKS
from mmengine.dist import get_world_size
from mmengine.hooks import Hook

from epic100.base.machine import usable_cores


@HOOKS.register_module()
class LoaderShareHook(Hook):
    """Log `compute_time` beside MMEngine's `data_time` (seconds an iteration), and warn once an
    epoch where the loader is the limit.

    Args:
        limit: share of the time spent waiting for data from which on it is said. enough: iterations
        before a share is worth a word.
    """

    priority = "LOW"

    def __init__(self, limit: float = 0.2, enough: int = 20):
        self.limit, self.enough = limit, enough
        self._waited = self._spent = 0.0
        self._count = 0
        self._said = False

    def before_train_epoch(self, runner) -> None:
        """Count each epoch on its own."""
        self._waited = self._spent = 0.0
        self._count = 0
        self._said = False

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Split the iteration; the first of an epoch waits for workers to start and is left out."""
        loop = runner.train_loop
        runner.message_hub.update_scalar("train/compute_time", loop.computed)
        if batch_idx == 0:
            return
        self._waited += loop.waited
        self._spent += loop.waited + loop.computed
        self._count += 1
        if self._count == self.enough:
            self._warn(runner)

    def after_train_epoch(self, runner) -> None:
        """Look again at the whole epoch."""
        self._warn(runner)

    def _warn(self, runner) -> None:
        share = self._waited / self._spent if self._spent else 0.0
        if self._said or self._count < self.enough or share < self.limit:
            return
        self._said = True
        runner.logger.warning(
            loader_advice(
                self._waited / self._count,
                self._spent / self._count,
                runner.train_dataloader.num_workers,
                usable_cores() // get_world_size(),
            )
        )


def loader_advice(waited: float, spent: float, workers: int, cores: int) -> str:
    """What to do about a loader that is the limit.

    `waited` and `spent`: seconds an iteration, for data and in all; `cores`: of this process.
    """
    text = (
        f"the loader is the limit: of {spent:.2f} s an iteration {waited:.2f} s "
        f"({100 * waited / spent:.0f} %) are spent waiting for data, {spent - waited:.2f} s "
        "computing; "
    )
    if workers + 1 < cores:
        return (
            text + f"raise `train: workers:` from {workers} towards the {cores} cores that this "
            "process has, then try smaller copies of the videos (`videos: proxy:`)"
        )
    return (
        text + f"{workers} workers use the {cores} cores that this process has: try smaller "
        "copies of the videos (`videos: proxy:`) or ask for more cores"
    )
