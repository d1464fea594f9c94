"""results/model_card.md: the training, data and accuracy of a model, without a folder's name."""

import logging
import os
import platform
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mmengine.config import ConfigDict

from epic100.base.atomic import write_text
from epic100.base.disk import read_json
from epic100.base.text_table import read_frame
from epic100.data.cleaning import caution
from epic100.model.hugging_face_folder import license_of
from epic100.model.model_file import digest, load_model
from epic100.pages.report_tables import dropped_counts
from epic100.pages.template import template

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
    # The card names no folder of the machine.
    config = ConfigDict(without_folders(own.config))
    backbone = ConfigDict(own.config).model.backbone
    folder = backbone.get("encoder_folder")
    installed = {package.name: package.version for package in distributions()}
    content = {
        "name": Path(model).name,
        "sha256": digest(model),
        "config": config,
        "weights": sum(
            tensor.numel()
            for name, tensor in own.state_dict.items()
            if not name.endswith(STATISTICS)
        ),
        "outputs": own.outputs,
        "backbone": backbone,
        "license": license_of(folder) if folder else None,
        "files": [(name, without_folders(str(path)), digest(path)) for name, path in files.items()],
        "dropped": dropped_counts(dropped),
        "caution": caution(read_frame(salvage)),
        "heads": own.heads,
        "trained_on": without_folders(own.trained_on),
        "figures": read_json(metrics),
        "versions": {"Python": platform.python_version()}
        | {name: installed.get(name, "not installed as a package") for name in PACKAGES},
        "loading": LOADING.format(path=model),
    }
    write_text(out, template("model_card.md.j2").render(content))
    log.info("%s describes %s", out, model)


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
