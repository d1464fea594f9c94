"""The state of a training: its measurements, when it is saved, and the contents of a checkpoint.

MMEngine's own checkpoint (0.10.7) contains objects that `weights_only=True` refuses, formats the
config again for each save, and does not save state per rank.
"""

import contextlib
import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from epic100.base.errors import EpicError
from epic100.base.ranks import from_all, rank, world
from epic100.model.forward import bare
from epic100.model.model_file import Pairs, TrainedModel
from epic100.scoring.epoch_table import Row
from epic100.scoring.pair_metric import FIGURES
from epic100.training.recipe import Recipe, model_config
from epic100.training.run import last_saved

log = logging.getLogger(__name__)

# A checkpoint has the history as `message_hub["runtime_info"][HISTORY_KEY]`.
HISTORY_KEY = "history"


@dataclass
class History:
    """The measurements of a training.

    They are saved in each checkpoint, so no batch is counted twice after a kill.

    Attributes:
        rows: A row of `training.tsv` for each finished epoch. `samples_per_s` covers all processes,
            `data_share` and `seconds` are rank 0's.
        best: The best action top-1 of a validation so far, in percent.
        best_iter: Number of finished batches at that validation.
        batches: Number of batches of the present epoch.
        samples: Segments of this process in these batches.
        loss: Sum of the losses of these batches.
        waited: Seconds in which the device waited for data.
        seconds: Seconds in which the device waited for data or computed.
        lr: Learning rate of the last batch.
    """

    rows: list[Row] = field(default_factory=list)
    best: float = -math.inf
    best_iter: int = 0
    batches: int = 0
    samples: int = 0
    loss: float = 0.0
    waited: float = 0.0
    seconds: float = 0.0
    lr: float = 0.0

    def add(self, segments: int, loss: float, lr: float, waited: float, computed: float) -> None:
        """Add a batch to the sums of the epoch."""
        self.batches += 1
        self.samples += segments
        self.loss += loss
        self.waited += waited
        self.seconds += waited + computed
        self.lr = lr

    def means(self) -> dict[str, float]:
        """Compute the figures of the epoch's row from the sums over its batches."""
        return {
            "lr": self.lr,
            "loss": self.loss / self.batches,
            # Each of the `world()` processes has seen so many samples.
            "samples_per_s": self.samples * world() / self.seconds,
            "data_share": self.waited / self.seconds,
            "seconds": self.seconds,
        }

    def after_epoch(self, epoch: int, batches: int, figures: Mapping[str, float]) -> "History":
        """Return the history with the row of a finished epoch, and sums of zero for the next one.

        Args:
            epoch: Number of finished epochs.
            batches: Number of finished batches of all epochs.
            figures: Figures of `EpicPairMetric`, or {} without a validation.
        """
        accuracies = {column: figures.get(name) for column, name in FIGURES.items()}
        row = {"epoch": epoch, "iter": batches, **accuracies, **self.means()}
        return History([*self.rows, row], self.best, self.best_iter)


@dataclass
class Saves:
    """The settings of checkpoints within an epoch, and the stamp that is saved in each checkpoint.

    After an epoch, before a validation and on a signal, a training is saved in any case.

    Attributes:
        iterations: Save after this many batches; None means never.
        seconds: Save this many seconds after the last save; None means never.
        keep: Number of newest checkpoints to keep.
        stamp: The stamp of the run.
        last_save: Time of the last save, or of the start, in seconds of rank 0's clock.
    """

    iterations: int | None = None
    seconds: float | None = 600.0
    keep: int = 2
    stamp: dict[str, str] = field(default_factory=dict)
    last_save: float = 0.0

    def due(self, batches: int, clock: float) -> bool:
        """Whether to save after this many batches, at this time."""
        is_due_by_batches = self.iterations is not None and batches % self.iterations == 0
        is_due_by_time = self.seconds is not None and clock - self.last_save >= self.seconds
        return is_due_by_batches or is_due_by_time


def require_finite(runner: Any) -> None:
    """Raise EpicError if a weight is NaN or infinite, so that no such checkpoint is saved."""
    # One sum per parameter is enough: it is NaN or infinite if one of its terms is.
    sums = torch.stack([p.detach().double().sum() for p in runner.model.parameters()])
    if not torch.isfinite(sums).all():
        raise EpicError(
            f"epoch {runner.epoch + 1}, iteration {runner.iter}: weights are NaN or infinite, and "
            f"so not saved; {last_saved(runner.work_dir)}; lower the learning rate"
        )


def collect_state(
    runner: Any, history: History, config_text: str, stamp: Mapping[str, str]
) -> dict:
    """Collect the contents of a checkpoint, in the form that MMEngine's resume reads.

    Two keys are the workflow's own: `stamp`, and `rank_states` with the buffers of each rank
    (BatchNorm's running statistics). All ranks must call this function together. It saves no random
    states, because random draws depend only on seed, epoch, sample and iteration
    (`SampleSeedHook`).

    Args:
        runner: MMEngine's Runner in training.
        history: The measurements so far.
        config_text: The run's config as text.
        stamp: The run's stamp.
    """
    model = bare(runner.model)
    weights = model.state_dict()
    buffers = {name: buffer.cpu() for name, buffer in model.named_buffers() if name in weights}
    # MMEngine saves its message hub and restores it on a resume. So the history is put into it.
    runner.message_hub.update_info(HISTORY_KEY, asdict(history))
    state = {
        "meta": {
            "epoch": runner.epoch,
            "iter": runner.iter,
            "seed": runner.seed,
            "dataset_meta": runner.train_dataloader.dataset.metainfo,
            "cfg": config_text,
        },
        "state_dict": weights,
        "message_hub": _plain_hub(runner.message_hub),
        "optimizer": runner.optim_wrapper.state_dict(),
        "param_schedulers": [plain(s.state_dict()) for s in runner.param_schedulers or []],
        "rank_states": from_all({"buffers": buffers}),
        "stamp": stamp,
    }
    runner.call_hook("before_save_checkpoint", checkpoint=state)
    return state


def take_own_state(checkpoint: dict) -> History:
    """Put this rank's own buffers into a checkpoint, and return the history in it.

    This changes the checkpoint in place, before the Runner loads it. If the number of processes has
    changed, all go on from rank 0's buffers, and this is logged.
    """
    states = checkpoint["rank_states"]
    if len(states) != world():
        if rank() == 0:
            log.info(
                f"saved by {len(states)} processes, resumed by {world()}: all go on from "
                "rank 0's BatchNorm statistics, equal to rounding, not to the bit"
            )
    else:
        checkpoint["state_dict"].update(states[rank()]["buffers"])
    return History(**checkpoint["message_hub"]["runtime_info"][HISTORY_KEY])


def plain(value: Any) -> Any:
    """Copy nested data with numbers of Python in place of NumPy's, which `weights_only` refuses.

    Raises:
        TypeError: The value is, or contains, something other than numbers, texts and tensors.
    """
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(plain, value))
    if isinstance(value, np.generic):  # `np.float64` is also a float.
        return value.item()
    if value is None or isinstance(value, (int, float, str, torch.Tensor)):
        return value
    raise TypeError(f"{type(value).__name__} is no data")


def _plain_hub(hub: Any) -> dict:
    """Copy MMEngine's message hub for a resume, without its logged figures.

    No resume needs these figures: the workflow's own are in the history.

    Returns:
        The hub's `state_dict`, with the keys that MMEngine gives it.
    """
    info = {}
    for key, value in hub.runtime_info.items():
        # A hook of the user may put any object into the hub. All but numbers, texts, tensors, and
        # lists or dicts of them is refused by `plain`, and not saved.
        with contextlib.suppress(TypeError):
            # `meta` of the checkpoint has the config already.
            if key != "cfg":
                info[key] = plain(value)
    return {"log_scalars": {}, "runtime_info": info, "resumed_keys": dict.fromkeys(info, True)}


def trained_model(
    runner: Any,
    config: Recipe,
    pairs: Pairs,
    classes: tuple[int, int],
    trained_on: dict,
    names: Mapping[str, Mapping[int, str]] | None = None,
) -> TrainedModel:
    """Make the finished model of a training that is over.

    Args:
        runner: MMEngine's Runner.
        config: The config that it was built from.
        pairs: The pair table: verb, noun and count.
        classes: Number of verb classes and number of noun classes.
        trained_on: Data and settings of the training, for the model file: `{"split": "train"}`.
        names: Class names by task and class id.
    """
    num_verbs, num_nouns = classes
    return TrainedModel(
        state_dict=final_weights(runner),
        pairs=pairs,
        num_verbs=num_verbs,
        num_nouns=num_nouns,
        config=model_config(config),
        trained_on=trained_on,
        heads=config.model.cls_head.heads,
        names=names or {},
    )


def final_weights(runner: Any) -> dict[str, torch.Tensor]:
    """Copy the final weights to the CPU: those of the moving average if there is one.

    Buffers (BatchNorm's statistics) are always the model's, which the processes share at the end of
    an epoch. The buffers of the average belong to one process only.
    """
    weights = bare(runner.model).state_dict()
    for hook in runner.hooks:
        # MMEngine's EMAHook has this attribute.
        if hasattr(hook, "ema_model"):
            weights |= dict(hook.ema_model.module.named_parameters())
    return {key: value.detach().cpu().clone() for key, value in weights.items()}
