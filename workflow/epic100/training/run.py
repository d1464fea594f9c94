"""The folder of a training: its fingerprint, its checkpoints, and its finished model.

The name of the folder is a digest of all that the weights depend on (`fingerprint`), so a training
resumes only what is its own. Snakemake removes the outputs of a job before it starts; the finished
model is kept here, so that another setting that is tried for an hour does not cost the model of a
day.
"""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path

import torch

from epic100.base.atomic import write_text
from epic100.base.disk import read_json
from epic100.base.errors import EpicError
from epic100.model.model_file import digest, load_model
from epic100.scoring.epoch_table import FILE as EPOCHS
from epic100.training.recipe import Recipe, items_of, tree_of

log = logging.getLogger(__name__)

MODEL = "model.pth"
FINGERPRINT = "fingerprint.json"
# The state inside an epoch; MMEngine writes `epoch_{n}.pth` after an epoch.
INSIDE_EPOCH = "inside_epoch.pth"

# A fingerprint has the settings below these keys of the config.
FINGERPRINTED_KEYS = (
    "model",
    "train_dataloader",
    "train_cfg",
    "optim_wrapper",
    "param_scheduler",
    "custom_hooks",
    "randomness",
    "auto_scale_lr",
    "sync_bn",
)
# It leaves these out, at any depth. They say where files are (it has digests of them), how
# they are loaded, and when a validation is due.
LEFT_OUT = {
    "ann_file",
    "pairs",
    "data_root",
    "index_dir",
    "encoder_folder",
    "keep_open",
    "max_broken",
    "num_workers",
    "persistent_workers",
    "pin_memory",
    "prefetch_factor",
    "timeout",
    "val_interval",
    "val_begin",
    "dynamic_intervals",
}


def open_run(folder: str | os.PathLike, config: Recipe, code: Mapping[str, str]) -> Path:
    """Make the folder of a training, with its fingerprint in it to read.

    Args:
        folder: `results/work_dirs`.
        config: The result of `build_config`.
        code: Digests of the user's own modules by name (`base.own_modules`).

    Returns:
        The folder, `results/work_dirs/{digest of the fingerprint}`.
    """
    content = fingerprint(config, code)
    text = json.dumps(content, indent=1, sort_keys=True) + "\n"
    run = Path(folder) / hashlib.sha256(text.encode()).hexdigest()[:12]
    if not (run / FINGERPRINT).is_file():
        _log_what_is_new(run, content)
    write_text(run / FINGERPRINT, text)
    return run


def fingerprint(config: Recipe, code: Mapping[str, str]) -> dict[str, str]:
    """Collect everything that the result of a training depends on, by name.

    These are digests of the clean list, the pair table, the start weights and the user's modules,
    and each setting by its dotted key.

    Args:
        config: The result of `build_config`.
        code: Digests of the user's own modules by name.
    """
    dataset, weights = config.train_dataloader.dataset, config.get("load_from")
    return {
        "clean list": digest(dataset.ann_file),
        "pair table": digest(dataset.pairs),
        "start weights": digest(weights) if weights and Path(weights).is_file() else str(weights),
        **{f"module {name}": code[name] for name in code},
        **settings_in(config),
    }


def settings_in(config: Recipe) -> dict[str, str]:
    """Collect the settings of a config that change what is learned, by dotted key."""
    settings = config.to_dict()
    # In a tree, the settings in lists have dotted keys too, such as `param_scheduler.0.type`.
    tree = tree_of({key: settings.get(key) for key in FINGERPRINTED_KEYS})
    items = items_of(tree, without=LEFT_OUT)
    return {key: str(value) for key, value in items if value is not None}


def is_finished(run: Path) -> bool:
    """Whether the training has ended, and its model and its table of epochs can be read."""
    if not (run / MODEL).is_file() or not (run / EPOCHS).is_file():
        return False
    try:
        load_model(run / MODEL)
    except EpicError as error:
        log.warning(f"{error}; it is made again from the last checkpoint")
        return False
    return True


def newest_checkpoint(run: Path) -> Path | None:
    """Find the checkpoint with the most iterations that can be read; say which cannot.

    Args:
        run: The folder of the training.
    """
    iterations: dict[Path, int] = {}
    for path in (*run.glob("epoch_*.pth"), *run.glob(INSIDE_EPOCH)):
        try:
            # Mapped to memory, only the file's table of contents is read here.
            content = torch.load(path, "cpu", weights_only=True, mmap=True)
            iterations[path] = content["meta"]["iter"]
        except Exception as error:  # A broken file can raise any error.
            reason = " ".join(str(error).split())[:100]
            log.warning(f"{path}: cannot be read ({reason}); the one before it is taken")
    return max(iterations, key=iterations.__getitem__, default=None)


def _log_what_is_new(run: Path, content: Mapping[str, str]) -> None:
    """Log in what a new training differs from the last one in the folder beside it."""
    others = sorted(run.parent.glob(f"*/{FINGERPRINT}"), key=lambda path: path.stat().st_mtime)
    # A fingerprint that cannot be read is that of another training, and stops no new one.
    with contextlib.suppress(EpicError, TypeError):
        for path in others[-1:]:
            theirs = read_json(path)
            keys = [key for key in content | theirs if content.get(key) != theirs.get(key)]
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            log.info(f"a new training; {path.parent} differs in {', '.join(keys[:3])}{more}")
