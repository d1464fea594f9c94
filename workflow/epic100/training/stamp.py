"""The stamp of a run identifies it: digests of lists and start weights, and all settings."""

import hashlib
import json
import os
from pathlib import Path

from mmengine.config import Config
from pydantic import TypeAdapter

from epic100.base.atomic import write_text
from epic100.base.disk import read_text
from epic100.base.errors import EpicError
from epic100.model.model_file import digest
from epic100.training.config import items_of, tree_of

FILE = "stamp.json"
SHOWN = 3

KEYS = (
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
# Left out below those keys, at any depth: where files are (the stamp has digests of the lists) and
# how they are loaded. The stamp has the batch over all processes instead of `batch_size`.
INDIFFERENT = {
    "ann_file",
    "pairs",
    "data_root",
    "index_dir",
    "keep_open",
    "max_broken",
    "batch_size",
    "num_workers",
    "persistent_workers",
    "pin_memory",
    "prefetch_factor",
    "timeout",
    "val_interval",
    "val_begin",
    "dynamic_intervals",
}


def run_stamp(config: Config, processes: int = 1) -> dict[str, str]:
    """Everything that the result of a training depends on, by name.

    These are digests of the clean list, the pair table and the start weights, the global batch, and
    each setting by its dotted key. Paths of files, loading, validation and logs (`default_hooks`)
    are left out, so a run may resume with other values of these.

    Args:
        config: The result of `build_config`, or any complete config.
        processes: Number of training processes, each with the config's `batch_size`.
    """
    dataset = config.train_dataloader.dataset
    weights = config.get("load_from")
    stamp = {
        "clean list": digest(dataset.ann_file),
        "pair table": digest(dataset.pairs),
        "start weights": digest(weights) if weights and Path(weights).is_file() else str(weights),
        "global batch": str(config.train_dataloader.batch_size * processes),
    }
    return stamp | settings_in(config)


def settings_in(config: Config) -> dict[str, str]:
    """The settings of a config that change what is learned, by dotted key."""
    settings = config.to_dict()
    tree = tree_of({key: settings.get(key) for key in KEYS})
    return {k: str(v) for k, v in items_of(tree, without=INDIFFERENT) if v is not None}


def stamp_name(stamp: dict[str, str]) -> str:
    """A short name for the run with this stamp."""
    text = "\n".join(f"{key}={stamp[key]}" for key in sorted(stamp))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def open_run_dir(folder: str | os.PathLike, stamp: dict[str, str]) -> Path:
    """Create the run's own directory in `folder`, named after the stamp, and write stamp.json."""
    run_dir = Path(folder) / stamp_name(stamp)
    write_text(run_dir / FILE, json.dumps(stamp, indent=1) + "\n")
    return run_dir


def read_stamp(run_dir: str | os.PathLike) -> dict[str, str]:
    """Read the stamp of a run's directory. Raises EpicError if there is none."""
    path = Path(run_dir, FILE)
    try:
        return TypeAdapter(dict[str, str]).validate_json(read_text(path), strict=True)
    except ValueError as error:
        raise EpicError(
            f"{path}: no stamp of a training: expected texts by name; see who wrote it, then move "
            f"{run_dir} away, and the training begins anew"
        ) from error


def differences(theirs: dict[str, str], ours: dict[str, str]) -> str:
    """Describe how two stamps differ; empty if they are equal."""
    found = []
    for key in dict.fromkeys([*ours, *theirs]):
        there, here = theirs.get(key, "absent"), ours.get(key, "absent")
        if there != here:
            long = max(len(there), len(here)) > 40
            found.append(key if long else f"{key} ({there} there, {here} here)")
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(found[:SHOWN]) + more
