"""A training of one step and one validation, on a few segments and in a folder of its own."""

import logging
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import init_default_scope

import epic100.training.registered  # noqa: F401  (registers what the config names)
from epic100.base.errors import EpicError
from epic100.settings import TrainSettings
from epic100.training.config import LOADERS, Changes, build_config
from epic100.training.config_file import changed, present, read_config, root_cause
from epic100.training.device import Placement, autocast_refused
from epic100.training.option_check import last_part, option_hints
from epic100.training.plan import plan_run
from epic100.training.quiet_runner import QuietRunner
from epic100.training.stamp import open_work_dir, run_stamp
from epic100.training.start_check import StartCheck, check_start

log = logging.getLogger(__name__)

ONE_EPOCH: Changes = {
    "train_cfg.max_epochs": 1,
    "train_cfg.val_interval": 1,
    "train_cfg.val_begin": 1,
}


@dataclass(frozen=True)
class Trial:
    """What a trial found.

    Args:
        check: Result of the start check of the small run.
        loss: Loss of the one step.
        seconds: Duration of the step and the validation, with their start.
        validated: Whether a validation was run.
    """

    check: StartCheck
    loss: float
    seconds: float
    validated: bool


def try_training(
    settings: TrainSettings,
    folder: Path,
    video_root: str,
    index_dir: str,
    classes: tuple[int, int],
    placement: Placement,
    blank: tuple[str, ...] = (),
) -> Trial:
    """Train one step and validate one batch, as the settings say, on the lists in `folder`.

    Batch, workers, processes and compilation are small or off; all else is the run's own.

    Args:
        settings: The `train:` section.
        folder: Takes the place of the results folder (`small_lists.write_small_results`).
        video_root: The folder of the videos.
        index_dir: The folder of the frame indexes.
        classes: Number of verb classes and number of noun classes.
        placement: Device of the trial, with one process.
        blank: Splits (train, val) that get grey pictures, because no video can be read.

    Raises:
        EpicError: The settings cannot be trained with. The traceback is in the log.
    """
    init_default_scope("mmaction")
    plain = settings.model_copy(update={"compile": False, "accumulate": 1, "workers": 0})
    if autocast_refused(settings.precision, placement.device):
        plain = replace(plain, precision="fp32")
    config = build_config(plain, str(folder), video_root, index_dir, classes)
    asked = replace(plain, accumulate=settings.accumulate)
    # Whether the batch can be shared among all processes.
    every = Placement("cpu", (settings.gpus or 1) * settings.nodes, settings.nodes)
    plan_run(config, asked, every, work_dir=folder, classes=classes)
    own = {"experiment_name": folder.name}  # MMEngine takes runs of one second and name for one
    config = changed(config, {**ONE_EPOCH, **own, **_small_loaders(config, blank)})
    with _in_one_line(config, settings):
        work_dir = open_work_dir(folder / "work_dirs", run_stamp(config))
        plan = plan_run(config, plain, placement, work_dir=work_dir, classes=classes)
        check = check_start(plan)
        started = time.perf_counter()
        runner = QuietRunner.from_cfg(check.plan.config)
        runner.train()
    return Trial(
        check=check,
        loss=float(runner.message_hub.get_scalar("train/loss").current()),
        seconds=time.perf_counter() - started,
        validated=runner.val_loop is not None,
    )


def _small_loaders(config: Config, blank: tuple[str, ...]) -> Changes:
    """Few segments a batch, and no loader processes."""
    changes: Changes = {}
    for name in present(config, *LOADERS):
        loader = config[name]
        lines = Path(loader.dataset.ann_file).read_text(encoding="utf-8").splitlines()
        changes[f"{name}.batch_size"] = max(1, len(lines))
        changes[f"{name}.num_workers"] = 0  # also where options set it
        changes[f"{name}.persistent_workers"] = False
        changes[f"{name}.prefetch_factor"] = None
        changes[f"{name}.dataset.part"] = None
        if ("train" if name == "train_dataloader" else "val") in blank:
            steps = loader.dataset.pipeline
            changes[f"{name}.dataset.pipeline"] = [
                {"type": "BlankSegment"} if step["type"] == "OpenSegment" else step
                for step in steps
            ]
    return changes


@contextmanager
def _in_one_line(config: Config, settings: TrainSettings) -> Iterator[None]:
    """Turn what MMEngine raises for unknown settings into an error with advice."""
    try:
        yield
    except EpicError:
        raise
    except Exception as error:  # any component may raise anything at settings that it cannot take
        log.error(traceback.format_exc())
        reason = " ".join(str(error).split())[:300]
        hints = option_hints(config, [key for key in settings.options if last_part(key) in reason])
        raise EpicError(
            f"config: a training step with these settings fails ({type(error).__name__}: {reason})"
            f"; {hints + '; ' if hints else ''}expected keys and values that its parts take; "
            f"correct `train: options:` or {settings.config}"
        ) from error


def lists_are_in(settings: TrainSettings, folder: Path) -> bool:
    """Whether the MMEngine config reads its lists and pairs from `folder`.

    A config may name files of its own, which the scans may yet have to make.
    """
    variables = {"EPIC100_RESULTS": str(folder), "EPIC100_SPLIT": settings.split}
    try:
        config = read_config(settings.config, variables)
    except EpicError as error:
        if isinstance(root_cause(error), FileNotFoundError):
            return False
        raise
    dataset = config.train_dataloader.dataset
    return all(Path(dataset[name]).is_relative_to(folder) for name in ("ann_file", "pairs"))
