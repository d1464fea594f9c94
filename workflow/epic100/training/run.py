"""Train the recognizer: the workflow's settings into an MMEngine config, run, save one model file.

Reads top to bottom: `build_config`, `train`, then what they lean on.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from epic100.errors import EpicError
from epic100.model_file import TrainedModel, save_model
from epic100.pairs import read_pairs
from epic100.segments import read_segments
from epic100.training.history import write_history


@dataclass(frozen=True)
class TrainSettings:
    """The `train:` section of the workflow's config; None means: as the MMEngine config says.

    `config`: MMEngine config file. `load_from`: weights to start from, a path or URL.
    `target_fps`: sample clips at this rate instead of the file's own. `videos_at_once`: draw
    segments from so many videos at a time (`VideoPoolSampler`). `max_broken`: share of clips that
    may fail to decode. `options`: any other key of the MMEngine config, dotted, to its value.
    """

    config: str
    load_from: str | None = None
    target_fps: float | None = None
    epochs: int | None = None
    batch_size: int | None = None
    workers: int | None = None
    videos_at_once: int | None = None
    max_broken: float = 0.01
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)


def build_config(
    settings: TrainSettings, results: str, video_root: str, index_dir: str | None = None
) -> Config:
    """The MMEngine config of this run, with the workflow's paths and settings put in.

    `index_dir`: frame indexes of the videos below `video_root`; None: the scan's.
    Raises EpicError where the file or a key of `options` does not hold.
    """
    if not Path(settings.config).is_file():
        raise EpicError(f"{settings.config}: no such MMEngine config; see `train: config:`")
    weights = settings.load_from
    if weights and "://" not in weights and not Path(weights).is_file():
        raise EpicError(
            f"{weights}: no such weights; `train: load_from:` takes a checkpoint file, a URL, or "
            "null to train from scratch"
        )
    os.environ["EPIC100_RESULTS"], os.environ["EPIC100_VIDEOS"] = results, video_root
    os.environ["EPIC100_INDEXES"] = index_dir or f"{results}/scan"
    config = Config.fromfile(settings.config)
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
    config.load_from = weights
    config.merge_from_dict(settings.options)
    return config


def train(
    settings: TrainSettings,
    model_path: str | os.PathLike,
    *,
    results: str,
    video_root: str,
    num_verbs: int,
    num_nouns: int,
    index_dir: str | None = None,
    history: str | os.PathLike | None = None,
) -> None:
    """Train on `{results}/clean/train.txt` and write the finished model to `model_path`.

    Logs and checkpoints go to a folder below `{results}/work_dirs` that is named after the data
    and settings of the run; the same run, started again, goes on from its newest whole checkpoint.
    """
    import epic100.mmaction  # noqa: F401  (registers models, datasets and hooks)

    init_default_scope("mmaction")
    config = build_config(settings, results, video_root, index_dir)
    train_list, pairs_file = f"{results}/clean/train.txt", f"{results}/clean/pairs.tsv"
    pairs = read_pairs(pairs_file)
    segments = len(read_segments(train_list))
    work_dir = Path(results) / "work_dirs" / run_stamp(config, [train_list, pairs_file])
    config.work_dir = str(work_dir)
    # After the stamp: where a run goes on, another number of workers or device may serve.
    for loader in filter(
        None, (config.train_dataloader, config.val_dataloader, config.test_dataloader)
    ):
        loader.pin_memory = torch.cuda.is_available()
        if settings.workers is not None:
            loader.num_workers = settings.workers
            loader.persistent_workers = settings.workers > 0
    checkpoint = newest_checkpoint(work_dir)
    if checkpoint:
        print(f"resuming from {checkpoint}")
        config.load_from, config.resume = str(checkpoint), True
    _say_plan(config, segments, len(pairs))
    runner = Runner.from_cfg(config)
    runner.train()
    if history:
        write_history(work_dir, history, config.train_dataloader.batch_size)
    model = runner.model.module if hasattr(runner.model, "module") else runner.model
    save_model(
        TrainedModel(
            state_dict={k: v.detach().cpu().clone() for k, v in model.state_dict().items()},
            pairs=pairs,
            num_verbs=num_verbs,
            num_nouns=num_nouns,
            config=config.pretty_text,
            trained_on={
                "split": "train",
                "segments": segments,
                "epochs": runner.max_epochs,
                "seed": settings.seed,
                "load_from": settings.load_from,
            },
        ),
        model_path,
    )


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


def run_stamp(config: Config, files: list[str]) -> str:
    """A short name for this run: a digest of its config and of the files it learns from."""
    digest = hashlib.sha256(config.pretty_text.encode())
    for name in files:
        digest.update(Path(name).read_bytes())
    return digest.hexdigest()[:12]


def newest_checkpoint(work_dir: Path) -> Path | None:
    """The checkpoint of the latest epoch that loads; one that does not is set aside, and said."""
    found = sorted(work_dir.glob("epoch_*.pth"), key=lambda p: int(p.stem[6:]), reverse=True)
    for path in found:
        try:
            torch.load(path, map_location="cpu", weights_only=True)
            return path
        except Exception as error:  # torch raises many kinds for a broken file
            path.rename(path.with_suffix(".broken"))
            print(f"{path} does not load ({type(error).__name__}): set aside as .broken")
    return None


def _steps(node) -> Iterator[dict]:
    """Every dict with a `type` in a nested config."""
    if isinstance(node, dict):
        if "type" in node:
            yield node
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for item in node:
            yield from _steps(item)


def _say_plan(config: Config, segments: int, pairs: int) -> None:
    loader = config.train_dataloader
    on_cpu = f"CPU, {torch.get_num_threads()} threads"
    rows = {
        "data": f"{segments} segments, {pairs} verb-noun pairs",
        "model": f"{config.model.type}, backbone {config.model.backbone.type}",
        "weights": config.load_from or "from scratch",
        "schedule": f"{config.train_cfg.max_epochs} epochs, batch {loader.batch_size}",
        "device": "CUDA" if torch.cuda.is_available() else on_cpu,
        "loader": f"{loader.num_workers} workers",
        "work dir": config.work_dir,
    }
    print("\n".join(f"{name:>10}: {value}" for name, value in rows.items()), flush=True)
