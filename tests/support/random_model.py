"""A model of the demo's form with random weights, without a training; what a model predicts."""

from pathlib import Path

import torch
from mmaction.registry import MODELS
from mmengine.registry import init_default_scope

from epic100.model.model_file import TrainedModel, save_model
from epic100.prediction.predict import predict
from epic100.scoring.predictions import Predictions, read_predictions
from epic100.segments.pairs import read_pairs
from epic100.settings import PredictSettings
from epic100.training.config import model_config
from support.small_runs import built


def save_random_model(lab, path: Path, seed: int = 0) -> Path:
    """Write one for the lab's pairs; BatchNorm's statistics are random too, and rows differ."""
    init_default_scope("mmaction")
    torch.manual_seed(seed)
    config = built(lab)
    model = MODELS.build(config.model)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 2)
        model.cls_head.fc2.weight.mul_(30)
    pairs = read_pairs(f"{lab.results}/clean/pairs.tsv")
    about = {"split": "train", "segments": 0, "epochs": 0, "seed": seed, "load_from": None}
    save_model(TrainedModel(model.state_dict(), pairs, 97, 300, model_config(config), about), path)
    return path


def predicted(lab, model: Path, listed: Path | str, out: Path, **settings) -> Predictions:
    """What `model` predicts for a list of segments of the lab, by way of the file `out`."""
    chosen = PredictSettings(**{"workers": 0} | settings)
    predict(model, listed, out, split="val", video_root=lab.root, index_dir=f"{lab.results}/scan",
            settings=chosen)  # fmt: skip
    return read_predictions(out, "val", model=model, clean=listed)
