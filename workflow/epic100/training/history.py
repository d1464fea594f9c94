"""training.tsv: one row an epoch, exact also after a resume."""

from pathlib import Path

from mmaction.registry import HOOKS
from mmengine.dist import get_world_size
from mmengine.hooks import Hook

from epic100.base.atomic import atomic_path
from epic100.base.errors import EpicError
from epic100.scoring.metrics import TASKS
from epic100.training.collective import on_rank_0
from epic100.training.validation import figure_name

FILE = "training.tsv"
FIGURES = {f"{task}_top{k}": figure_name(task, k) for task in TASKS for k in (1, 5)}
COLUMNS = ("epoch", "iter", "lr", "loss", *FIGURES, "samples_per_s", "data_share", "seconds")


@HOOKS.register_module()
class HistoryHook(Hook):
    """Writes `training.tsv` in the work directory after each epoch.

    `epoch` and `iter` count what is done, from 1; `lr` is that of the epoch's last batch; `loss`
    the mean over its batches and ranks; the figures are percent, empty where not validated;
    `samples_per_s` counts all ranks; `data_share` is the part (0 to 1) of rank 0's `seconds` spent
    waiting for data. `seconds` are of training alone, without saves and validation, and of the
    batches that count: what a kill made undone is in no row.

    Rows and the running sums of an epoch are in the message hub, so a checkpoint holds them, and a
    resumed run goes on from the rows that belong to its state.
    """

    priority = "LOW"

    def before_run(self, runner) -> None:
        """Begin anew; a resume then puts back what the checkpoint holds."""
        runner.message_hub.update_info("history", _empty())

    def before_train(self, runner) -> None:
        """Make the file fit the state that was resumed."""
        self._write(runner, runner.message_hub.get_info("history")["rows"])

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Note the rate that this batch is learned with."""
        self._lr = runner.optim_wrapper.get_lr()["lr"][0]

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Add this batch to the epoch's sums."""
        sums = runner.message_hub.get_info("history")
        loop = runner.train_loop
        sums["batches"] += 1
        sums["samples"] += len(data_batch["data_samples"])
        sums["loss"] += loop.loss
        sums["waited"] += loop.waited
        sums["seconds"] += loop.waited + loop.computed
        sums["lr"] = float(self._lr)

    def after_whole_epoch(self, runner, metrics: dict) -> None:
        """Turn the sums into a row."""
        sums = runner.message_hub.get_info("history")
        row = {
            "epoch": runner.epoch,
            "iter": runner.iter,
            "lr": sums["lr"],
            "loss": sums["loss"] / sums["batches"],
            **{column: metrics.get(name) for column, name in FIGURES.items()},
            "samples_per_s": sums["samples"] * get_world_size() / sums["seconds"],
            "data_share": sums["waited"] / sums["seconds"],
            "seconds": sums["seconds"],
        }
        rows = [*sums["rows"], row]
        runner.message_hub.update_info("history", {**_empty(), "rows": rows})
        self._write(runner, rows)

    def _write(self, runner, rows: list[dict]) -> None:
        path = Path(runner.work_dir) / FILE
        lines = ["\t".join(_cell(row[name]) for name in COLUMNS) for row in rows]

        def write() -> None:
            try:
                with atomic_path(path) as temporary:
                    temporary.write_text("\n".join(["\t".join(COLUMNS), *lines, ""]))
            except OSError as error:
                raise EpicError(f"{path}: cannot be written: {error.strerror}") from error

        on_rank_0(write)


def _empty() -> dict:
    sums = {"batches": 0, "samples": 0, "loss": 0.0, "waited": 0.0, "seconds": 0.0, "lr": 0.0}
    return {"rows": [], **sums}


def _cell(value) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
