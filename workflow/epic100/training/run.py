"""Train the recognizer: the workflow's settings into an MMEngine config, run, save one model file.

Reads top to bottom: `build_config`, `train`, then what they lean on.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

from epic100.base.atomic import atomic_path
from epic100.base.errors import EpicError
from epic100.model.model_file import TrainedModel, save_model
from epic100.segments.pairs import pairs_path, read_pairs
from epic100.segments.segment_list import read_segments
from epic100.training.checkpoint_hook import fit_checkpoints
from epic100.training.console import QuietRunner, quiet
from epic100.training.device import fit_device, place
from epic100.training.heads import final_weights, fit_head
from epic100.training.history import FILE as HISTORY
from epic100.training.plan import check_validation, make_plan
from epic100.training.stamp import open_work_dir, run_stamp
from epic100.training.trial import try_step
from epic100.training.validation import fit_validation
from epic100.training.weights import local_weights


@dataclass(frozen=True)
class TrainSettings:
    """The `train:` section of the workflow's config; None means: as the MMEngine config says.

    `config`: MMEngine config file. `split`: train, or trainval, which has no split left to validate
    on. `load_from`: weights to start from, a path or URL.
    `target_fps`: sample clips at this rate instead of the file's own. `videos_at_once`: draw
    segments from so many videos at a time (`VideoPoolSampler`). `max_broken`: share of clips that
    may fail to decode. `batch_size`: segments a step, over all processes. `checkpoint`: arguments
    of SafeCheckpointHook; `validate`: of `fit_validation`. `options`: any other key of the MMEngine
    config, dotted, to its value. The others: `training.device` and `training.heads`.
    """

    config: str
    split: str = "train"
    load_from: str | None = None
    target_fps: float | None = None
    epochs: int | None = None
    batch_size: int | None = None
    workers: int | None = None
    videos_at_once: int | None = None
    max_broken: float = 0.01
    seed: int = 0
    checkpoint: dict[str, Any] = field(default_factory=dict)
    validate: dict[str, int | None] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    device: str = "auto"
    gpus: int | None = None
    precision: str = "fp32"
    channels_last: bool = True
    compile: bool = False
    accumulate: int = 1
    scale_lr: bool | None = None
    label_smoothing: float | None = None
    logit_adjustment: float = 0.0
    ema: float | None = None
    dropout: float | None = None


def build_config(
    settings: TrainSettings, results: str, video_root: str, index_dir: str | None = None
) -> Config:
    """The MMEngine config of this run, with the workflow's paths and settings put in.

    `index_dir`: frame indexes of the videos below `video_root`; None: the scan's.
    Raises EpicError where the file or a key of `options` does not hold.
    """
    if not Path(settings.config).is_file():
        raise EpicError(f"{settings.config}: no such MMEngine config; see `train: config:`")
    os.environ["EPIC100_RESULTS"], os.environ["EPIC100_VIDEOS"] = results, video_root
    os.environ["EPIC100_INDEXES"] = index_dir or f"{results}/scan"
    os.environ["EPIC100_SPLIT"] = settings.split
    config = _read(settings.config)
    if settings.split != "train":
        _train_on(config, settings)
    if settings.epochs is not None:
        set_epochs(config, settings.epochs)
    loaders = [config.train_dataloader, config.val_dataloader, config.test_dataloader]
    for loader in filter(None, loaders):
        if settings.batch_size is not None:
            loader.batch_size = settings.batch_size
        loader.dataset.seed = settings.seed
        loader.dataset.max_broken = settings.max_broken
    if settings.videos_at_once is not None:
        config.train_dataloader.sampler = {
            "type": "VideoPoolSampler",
            "videos_at_once": settings.videos_at_once,
        }
    for step in _steps(config._cfg_dict):
        if step["type"] == "SampleFrames" and settings.target_fps is not None:
            step["target_fps"] = settings.target_fps
    config.randomness = dict(config.get("randomness", {}), seed=settings.seed)
    config.load_from = local_weights(settings.load_from) if settings.load_from else None
    fit_checkpoints(config, settings.checkpoint)
    fit_validation(config, **settings.validate)
    if settings.scale_lr is not None:
        config.auto_scale_lr = dict(config.get("auto_scale_lr") or {}, enable=settings.scale_lr)
    fit_head(config, settings, pairs_path(results, settings.split))
    config.merge_from_dict(settings.options)
    return config


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
) -> None:
    """Train on `{results}/clean/{split}.txt` and write the finished model to `model_path`, and what
    each epoch brought to `history_path` (`training.history`).

    Logs and checkpoints go to a folder below `{results}/work_dirs` that is named after the data
    and settings of the run; the same run, started again, goes on from its newest whole checkpoint.
    Raises EpicError also where a signal asked to stop, once the state is saved.
    """
    import epic100.training.registered  # noqa: F401

    init_default_scope("mmaction")
    config = build_config(settings, results, video_root, index_dir)
    if config.get("val_evaluator"):
        config.val_evaluator.update(num_verbs=num_verbs, num_nouns=num_nouns)
    pairs = read_pairs(pairs_path(results, settings.split))
    segments = read_segments(f"{results}/clean/{settings.split}.txt")
    work_dir = open_work_dir(Path(results) / "work_dirs", run_stamp(config))
    config.work_dir = str(work_dir)
    # After the stamp: where a run goes on, another number of workers or device may serve.
    for loader in filter(
        None, (config.train_dataloader, config.val_dataloader, config.test_dataloader)
    ):
        loader.pin_memory = torch.cuda.is_available()
        if settings.workers is not None:
            loader.num_workers = settings.workers
            loader.persistent_workers = settings.workers > 0
    placement = place(settings.device, settings.gpus, torch.cuda.device_count())
    off = fit_device(config, settings, placement)
    val = check_validation(config)
    trial = try_step(config, placement)
    if is_main_process():
        plan = make_plan(
            config, train=segments, val=val, pairs=pairs, classes=(num_verbs, num_nouns),
            placement=placement, trial=trial, off=off,
        )  # fmt: skip
        print(plan.text(), flush=True)
    runner = QuietRunner.from_cfg(config)
    if is_main_process():
        print(f"MMEngine's own log: {runner.logger.log_file}", flush=True)
    runner.train()
    if not is_main_process():
        return
    save_model(
        TrainedModel(
            state_dict=final_weights(runner),
            pairs=pairs,
            num_verbs=num_verbs,
            num_nouns=num_nouns,
            config=config.pretty_text,
            trained_on={
                "split": settings.split,
                "segments": len(segments),
                "epochs": runner.max_epochs,
                "seed": settings.seed,
                "load_from": settings.load_from or config.load_from,
            },
        ),
        model_path,
    )
    if history_path is not None:
        with atomic_path(history_path) as temporary:
            shutil.copyfile(work_dir / HISTORY, temporary)


def set_epochs(config: Config, epochs: int) -> None:
    """Change the number of epochs, and with it every schedule that ended with the training.

    A schedule that would begin only after the new end goes.
    """
    before = config.train_cfg.max_epochs
    config.train_cfg.max_epochs = epochs
    kept = [part for part in config.get("param_scheduler") or [] if part.get("begin", 0) < epochs]
    for part in kept:
        if part.get("end") == before:
            part["end"] = epochs
            if "T_max" in part:
                part["T_max"] = max(1, part["T_max"] + epochs - before)
    config.param_scheduler = kept


def _train_on(config: Config, settings: TrainSettings) -> None:
    listed = Path(config.train_dataloader.dataset.get("ann_file", "")).stem
    if listed != settings.split:
        raise EpicError(
            f"{settings.config}: trains on {listed}, but `train: split:` is {settings.split}; take "
            "its lists from the environment variable EPIC100_SPLIT, as config/x3d_s_epic_rgb_"
            "segments.py does"
        )
    # Figures on val would be figures on what it learned from.
    config.val_dataloader = config.val_cfg = config.val_evaluator = None


def _read(path: str) -> Config:
    quiet(MMLogger.get_current_instance())  # it tells of each variable of the environment
    try:
        return Config.fromfile(path)
    except EpicError:
        raise
    except Exception as error:  # a config is Python: anything can go wrong in it
        cause = error
        while cause.__cause__ or cause.__context__:  # MMEngine wraps what went wrong
            cause = cause.__cause__ or cause.__context__
        words = " ".join(str(cause).split())
        raise EpicError(
            f"{path}: this MMEngine config cannot be read ({type(cause).__name__}: {words}); see "
            "`train: config:`, and `custom_imports` in the file itself"
        ) from error


def _steps(node) -> Iterator[dict]:
    """Every dict with a `type` in a nested config."""
    if isinstance(node, dict):
        if "type" in node:
            yield node
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for item in node:
            yield from _steps(item)
