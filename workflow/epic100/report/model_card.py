"""results/model_card.md and metafile.yml: what a model is, its training data, and its accuracy."""

import importlib.metadata
import json
import logging
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from mmengine.config import ConfigDict

from epic100.base.atomic import write_text
from epic100.base.disk import read_text
from epic100.model.model_file import TrainedModel, digest, load_model
from epic100.report.tables import dropped_rows, wilson
from epic100.scoring.metrics import TASKS

log = logging.getLogger(__name__)

PathLike = str | os.PathLike
PACKAGES = ("epic100", "mmaction2", "mmengine", "mmcv-lite", "torch", "av", "numpy")
LOADING = """\
from epic100.mmaction import open_recognizer
model = open_recognizer("{path}")
"""


def write_model_card(
    model: PathLike,
    metrics: PathLike,
    dropped: PathLike,
    files: Mapping[str, PathLike],
    out: PathLike,
    metafile: PathLike,
) -> None:
    """Describe a finished model.

    Args:
        model: The model file.
        metrics: Its metrics.json on the val split.
        dropped: The table of dropped segments and reasons.
        files: Files that the model was made from, by description; the card lists their SHA-256.
        out: The card, in Markdown.
        metafile: The same facts in the format of MMAction2's metafiles.
    """
    trained = load_model(model)
    config = ConfigDict(trained.config)
    figures = json.loads(read_text(metrics))
    parts = [
        _what(trained, config, model),
        *_encoder(config),
        "## Data",
        _digests(files),
        _dropped(dropped),
        "## Recipe",
        _recipe(trained, config),
        "## Figures on the validation split",
        _figures(figures),
        "## Versions",
        "\n".join(f"- {name} {version}" for name, version in _versions().items()),
    ]
    if "features" not in config:
        lines = f"```python\n{LOADING.format(path=model)}```"
        parts += ["## Load it in MMAction2", f"With this package installed:\n\n{lines}"]
    write_text(out, "\n\n".join(parts) + "\n")
    write_text(
        metafile, yaml.safe_dump(_metafile(trained, config, figures, model), sort_keys=False)
    )
    log.info("%s and %s describe %s", out, metafile, model)


def without_folders(value: Any) -> Any:
    """Leave the last part of each absolute path in a config: what is shared names no user."""
    if isinstance(value, dict):
        return {key: without_folders(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(without_folders(held) for held in value)
    return os.path.basename(value) if isinstance(value, str) and os.path.isabs(value) else value


def _what(trained: TrainedModel, config: ConfigDict, path: PathLike) -> str:
    heads = ", ".join(f"{number} {head}s" for head, number in trained.outputs.items())
    weights = _parameters(trained)
    return (
        f"# Model card of {Path(path).name}\n\n"
        f"{config.model.type} with backbone {config.model.backbone.type}, {weights / 1e6:.2f} M "
        f"weights, {heads}. It says which verb and noun a segment of EPIC-KITCHENS-100 shows. "
        f"SHA-256 of the file: `{digest(path)}`.\n\n"
        "For research on egocentric action recognition. EPIC-KITCHENS-100 is CC BY-NC 4.0: no "
        "commercial use. It learned from few kitchens in few cities; expect less elsewhere."
    )


def _encoder(config: ConfigDict) -> list[str]:
    """What gave the tokens of a probe."""
    rows = dict(config.get("features", {}))
    if not rows:
        return []
    rows["fingerprint"] = rows.pop("model")
    rows["license, as its folder states it"] = config.get("encoder", {}).get("license", "not known")
    return ["## Encoder, frozen", "\n".join(f"- {name}: {value}" for name, value in rows.items())]


def _parameters(trained: TrainedModel) -> int:
    """How many weights were learned: all but BatchNorm's statistics and counters."""
    kept = ("running_mean", "running_var", "num_batches_tracked")
    return sum(w.numel() for name, w in trained.state_dict.items() if not name.endswith(kept))


def _digests(files: Mapping[str, PathLike]) -> str:
    rows = [
        f"| {name} | {without_folders(str(path))} | `{digest(path)}` |"
        for name, path in files.items()
    ]
    return "\n".join(["| what | file | SHA-256 |", "|---|---|---|", *rows])


def _dropped(path: PathLike) -> str:
    splits, reasons = dropped_rows(path)
    lines = [
        f"- {split}: {number}, {reason}"
        for reason, numbers in reasons
        for split, number in zip(splits, numbers, strict=True)
        if number
    ]
    if not lines:
        return "No segment was dropped."
    return "Segments that were dropped:\n\n" + "\n".join(lines)


def _recipe(trained: TrainedModel, config: ConfigDict) -> str:
    about, optimizer = trained.trained_on, config.optim_wrapper.optimizer
    steps = " -> ".join(s["type"] for s in config.train_dataloader.dataset.pipeline)
    rest = {key: value for key, value in optimizer.items() if key != "type"}
    chosen = about.get("chosen_on")
    tried = f", the best of {about['chosen_of']} on {chosen}" if chosen else ""
    rows = {
        "trained on": f"{about.get('split')}, {about.get('segments')} segments",
        "start": about.get("load_from") or "random weights",
        "epochs": about.get("epochs"),
        "batch": config.train_dataloader.batch_size,
        "optimizer": f"{optimizer.type} {json.dumps(rest)}{tried}",
        "heads": trained.heads,
        "training pipeline": steps,
        "seed": about.get("seed"),
    }
    return "\n".join(f"- {name}: {value}" for name, value in rows.items())


def _figures(figures: Mapping[str, Any]) -> str:
    lines = ["| | verb | noun | action | segments |", "|---|---|---|---|---|"]
    for group, number in (("overall", figures["segments"]), ("readable", figures["predicted"])):
        cells = [_cell(figures.get(f"{group}_{task}_accuracy_at_1"), number) for task in TASKS]
        lines.append(f"| {group}, top-1 | {' | '.join(cells)} | {number} |")
    head = _cell(figures.get("action_head_accuracy_at_1"), figures["predicted"])
    lines.append(f"| head over pairs, top-1 | | | {head} | {figures['predicted']} |")
    return (
        "\n".join(lines) + "\n\nIn percent, with 95 % intervals over segments (Wilson); of one "
        "training. Segments without a readable video have the training prior. An action is right "
        f"where verb and noun are; scores folded by `{figures['reduce']}`."
    )


def _cell(percent: float | None, number: int) -> str:
    if percent is None or not number:
        return "-"
    low, high = wilson(percent, number)
    return f"{percent:.1f} ({low:.1f}-{high:.1f})"


def _versions() -> dict[str, str]:
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # used from a clone, not installed
            found[name] = "not installed as a package"
    return found


def _metafile(
    trained: TrainedModel, config: ConfigDict, figures: Mapping[str, Any], path: PathLike
) -> dict[str, Any]:
    """Describe one model in the format of MMAction2's metafile.yml."""
    about = trained.trained_on
    metrics = {
        f"Top 1 {task} accuracy": figures.get(f"overall_{task}_accuracy_at_1") for task in TASKS
    }
    model = {
        "Name": f"{config.model.backbone.type.lower()}_epic-kitchens-100-rgb",
        "In Collection": config.model.backbone.type,
        "Metadata": {
            "Architecture": config.model.backbone.type,
            "Batch Size": config.train_dataloader.batch_size,
            "Epochs": about.get("epochs"),
            "Parameters": _parameters(trained),
            "Pretrained": about.get("load_from"),
            "Training Data": f"EPIC-KITCHENS-100 {about.get('split')}",
        },
        "Modality": "RGB",
        "Results": [
            {"Dataset": "EPIC-KITCHENS-100", "Task": "Action Recognition", "Metrics": metrics}
        ],
        "Weights": f"{Path(path).name}#sha256={digest(path)}",
    }
    return {"Collections": [{"Name": config.model.backbone.type}], "Models": [model]}
