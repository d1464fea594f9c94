"""Train the recognizer: settings, config, stamp, plan, start check, run, one model file."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import EMAHook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import Tensor

import epic100.training.registered  # noqa: F401  (registers what the config names)
from epic100.base.errors import EpicError
from epic100.base.gpu import look_for_gpus, unusable
from epic100.model.model_file import TrainedModel
from epic100.segments.clean_list import read_clean_list
from epic100.segments.pairs import pairs_path, read_pairs
from epic100.settings import TrainSettings
from epic100.training.config import build_config
from epic100.training.config_heads import heads_of
from epic100.training.device import autocast_refused, bare, choose_device
from epic100.training.diagnosis import FILE as DIAGNOSIS
from epic100.training.diagnosis import DiagnosisHook, about_run
from epic100.training.finished import has_model, keep_model, take_model
from epic100.training.head_check import require_head
from epic100.training.plan import plan_run
from epic100.training.quiet_runner import QuietRunner
from epic100.training.stamp import open_work_dir, run_stamp
from epic100.training.start_check import check_start
from epic100.training.start_table import start_table
from epic100.training.weights import local_weights

log = logging.getLogger(__name__)


def train(
    settings: TrainSettings,
    model_path: str | os.PathLike,
    *,
    history_path: str | os.PathLike | None = None,
    results: str,
    video_root: str,
    num_verbs: int,
    num_nouns: int,
    index_dir: str | None = None,
    names: Mapping[str, Mapping[int, str]] | None = None,
) -> None:
    """Train on `{results}/clean/{split}.txt` and write the finished model.

    Logs and checkpoints go to a folder below `{results}/work_dirs`. Its name depends on the data
    and settings of the run. If the same run is started again, it resumes from its newest intact
    checkpoint; if it was finished, its model is taken from there. An anonymous page about the run,
    `diagnosis.txt`, goes beside the model file.

    Args:
        settings: The `train:` section.
        model_path: Path of the model file to write.
        history_path: Path of the table of epochs to write (`training.epoch_table`).
        results: The folder that contains `clean/` and `scan/`.
        video_root: The folder of the videos.
        num_verbs: Verb classes of the challenge.
        num_nouns: Noun classes of the challenge.
        index_dir: Folder of the frame indexes of the videos; None means the scan's.
        names: Class names for the model file, by task and class id (`ClassNames.by_task`).

    Raises:
        EpicError: The input cannot be trained on; or a signal asked to stop, after the state is
            saved.
    """
    init_default_scope("mmaction")
    placement = choose_device(settings.device, settings.gpus, look_for_gpus(), settings.nodes)
    if placement.device == "cuda" and (why := unusable()):
        raise EpicError(f"torch cannot compute on this GPU: {why}")
    weights = local_weights(settings.load_from) if settings.load_from else None
    classes = (num_verbs, num_nouns)
    settings = settings.model_copy(update={"load_from": weights})
    possible = settings
    if autocast_refused(settings.precision, placement.device):  # the plan lists it as off
        possible = settings.model_copy(update={"precision": "fp32"})
    config = build_config(possible, results, video_root, index_dir, classes)
    table = pairs_path(results, settings.split)
    pairs = read_pairs(table)
    require_head(config, len(pairs), classes, table)
    segments = read_clean_list(f"{results}/clean/{settings.split}.txt")
    work_dir = open_work_dir(Path(results) / "work_dirs", run_stamp(config))
    if has_model(work_dir, classes):
        if is_main_process():
            log.info(f"{work_dir} has the finished model of these settings and lists: taken")
            take_model(work_dir, model_path, history_path)
        return
    plan = plan_run(config, settings, placement, work_dir=work_dir, classes=classes)
    check = check_start(plan)
    shown = start_table(check, segments, pairs, classes)
    if is_main_process():
        log.info(shown.text())
    config = check.plan.config
    runner = QuietRunner.from_cfg(config)
    if is_main_process():
        log.info(f"MMEngine's own log: {runner.logger.log_file}")
        page = Path(model_path).parent / DIAGNOSIS
        runner.register_hook(DiagnosisHook(page, about_run(check, shown)))
    runner.train()
    if not is_main_process():
        return
    keep_model(
        TrainedModel(
            state_dict=final_weights(runner),
            pairs=pairs,
            num_verbs=num_verbs,
            num_nouns=num_nouns,
            config=config.pretty_text,
            heads=heads_of(config),
            names=names or {},
            trained_on={
                "split": settings.split,
                "segments": len(segments),
                "epochs": runner.max_epochs,
                "seed": settings.seed,
                "load_from": settings.load_from or config.load_from,
            },
        ),
        work_dir,
    )
    take_model(work_dir, model_path, history_path)


def final_weights(runner: Runner) -> dict[str, Tensor]:
    """The weights at the end of training, on the CPU: the moving average if there is one.

    Buffers (BatchNorm's statistics) are the model's own, which the processes share at the end of an
    epoch. Those of the average belong to one process only.
    """
    model = bare(runner.model)
    weights = model.state_dict()
    for hook in runner.hooks:
        if isinstance(hook, EMAHook):
            weights |= dict(hook.ema_model.module.named_parameters())
    return {key: value.detach().cpu().clone() for key, value in weights.items()}
