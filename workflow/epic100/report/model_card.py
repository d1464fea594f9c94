"""results/model_card.md: the training, data and accuracy of a model, without a folder's name."""

import json
import logging
import os
import platform
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import distributions
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mmengine.config import ConfigDict

from epic100.base.atomic import write_text
from epic100.base.disk import read_json
from epic100.base.text_table import read_frame
from epic100.model.hugging_face_folder import license_of
from epic100.model.model_file import TrainedModel, digest, load_model
from epic100.report.tables import dropped_counts
from epic100.report.template import template
from epic100.segments.cleaning import caution

log = logging.getLogger(__name__)

PathLike = str | os.PathLike
PACKAGES = ("epic100", "mmaction2", "mmengine", "mmcv-lite", "torch", "av", "numpy")
LOADING = """\
from epic100.mmaction import open_recognizer
model = open_recognizer("{path}")
"""
# The value of such a key in a config counts as the path of a file, whatever it looks like.
WEIGHTS = ("load_from", "checkpoint", "pretrained")
# The statistics of BatchNorm are not learned, so they do not count as weights.
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def write_model_card(
    model: PathLike,
    metrics: PathLike,
    dropped: PathLike,
    salvage: PathLike,
    files: Mapping[str, PathLike],
    out: PathLike,
) -> None:
    """Write the model card of a trained model.

    Args:
        model: The model file.
        metrics: The model's metrics.json on the val split.
        dropped: The table of dropped segments and reasons.
        salvage: The table of what each participant keeps.
        files: Files that the model was made from, by description; the card lists their SHA-256.
        out: The card, in Markdown.
    """
    own = load_model(model)
    trained = shared(own)
    config = ConfigDict(trained.config)
    installed = {package.name: package.version for package in distributions()}
    content = {
        "name": Path(model).name,
        "sha256": digest(model),
        "about": trained.trained_on,
        "config": config,
        "weights": sum(
            tensor.numel()
            for name, tensor in trained.state_dict.items()
            if not name.endswith(STATISTICS)
        ),
        "outputs": trained.outputs,
        # The shared config has lost the path of the folder.
        "encoder": _encoder(ConfigDict(own.config).model.backbone),
        "files": [(name, without_folders(str(path)), digest(path)) for name, path in files.items()],
        "dropped": dropped_counts(dropped),
        "caution": caution(read_frame(salvage)),
        "recipe": _recipe(trained, config),
        "figures": read_json(metrics),
        "versions": {"Python": platform.python_version()}
        | {name: installed.get(name, "not installed as a package") for name in PACKAGES},
        "loading": LOADING.format(path=model),
    }
    write_text(out, template("model_card.md.j2").render(content))
    log.info("%s describes %s", out, model)


def shared(model: TrainedModel) -> TrainedModel:
    """Copy a model, with each path in its config and history cut to the name of the file."""
    return replace(
        model,
        config=without_folders(model.config),
        trained_on=without_folders(model.trained_on),
    )


def without_folders(value: Any, key: str = "") -> Any:
    """Cut each path of the machine down to the name of its file: `/data/k400.pth` to `k400.pth`.

    Relative paths and `file:` URLs are cut, too. Web addresses and other texts stay.

    Args:
        value: Plain values in dicts and lists.
        key: The key of the dict that holds `value`, if one does.
    """
    if isinstance(value, dict):
        return {name: without_folders(item, name) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(without_folders(item, key) for item in value)
    if not isinstance(value, str) or urlsplit(value).scheme in ("http", "https"):
        return value
    is_path = key in WEIGHTS or value.startswith(("/", "~", "file:", "./", "../"))
    return os.path.basename(value.rstrip("/")) if is_path else value


def _encoder(backbone: ConfigDict) -> dict[str, str]:
    """Describe an encoder of Hugging Face, by label of the line; empty for another backbone."""
    folder = backbone.get("encoder_folder")
    if folder is None:
        return {}
    return {
        "folder": Path(folder).name,
        "fingerprint": backbone.fingerprint,
        "weights": "frozen, and not in the file" if backbone.frozen else "fine-tuned",
        "license, as its folder states it": license_of(folder),
    }


def _recipe(trained: TrainedModel, config: ConfigDict) -> dict[str, Any]:
    """Describe how a model was trained, by label of the line in the card."""
    trained_on, optimizer = trained.trained_on, config.optim_wrapper.optimizer
    options = {key: value for key, value in optimizer.items() if key != "type"}
    return {
        "trained on": f"{trained_on.get('split')}, {trained_on.get('segments')} segments",
        "start": trained_on.get("load_from") or "random weights",
        "epochs": trained_on.get("epochs"),
        "batch": config.train_dataloader.batch_size,
        "optimizer": f"{optimizer.type} {json.dumps(options)}",
        "heads": trained.heads,
        "training pipeline": " -> ".join(
            step["type"] for step in config.train_dataloader.dataset.pipeline
        ),
        "seed": trained_on.get("seed"),
    }
