"""Small untrained models: their config, weights, files and predictions. No test is here."""

import contextlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import torch
from mmaction.registry import MODELS
from mmengine.registry import init_default_scope

from epic100.data.pairs import read_pairs
from epic100.model.model_file import TrainedModel, save_model
from epic100.prediction.predict import predict
from epic100.scoring.predictions import Predictions, read_predictions
from epic100.settings.prediction import PredictSettings
from epic100.training.recipe import model_config
from support.small_runs import built

MODEL = {
    "type": "Recognizer3D",
    "backbone": {
        "type": "X3D",
        "gamma_w": 1,
        "gamma_b": 2.25,
        "gamma_d": 1.0,
        "norm_cfg": {"type": "BN3d"},
    },
    "cls_head": {
        "type": "X3DHead",
        "num_classes": 2,
        "in_channels": 432,
        "spatial_type": "avg",
        "dropout_ratio": 0.0,
        "fc1_bias": False,
        "average_clips": "prob",
    },
    "data_preprocessor": {
        "type": "ActionDataPreprocessor",
        "mean": [114.75] * 3,
        "std": [57.38] * 3,
        "format_shape": "NCTHW",
    },
}
STEP_LIST = [
    {"type": "OpenSegment", "decoder": "pyav"},
    {
        "type": "SampleFrames",
        "clip_len": 13,
        "frame_interval": 6,
        "num_clips": 1,
        "test_mode": True,
    },
    {"type": "DecodeSegment", "short_side": 52},
    {"type": "CenterCrop", "crop_size": 48},
    {"type": "FormatShape", "input_format": "NCTHW"},
    {"type": "PackActionInputs"},
]


@lru_cache(1)
def small_weights() -> dict[str, torch.Tensor]:
    """Make random weights for `MODEL`."""
    init_default_scope("mmaction")
    torch.manual_seed(0)
    return dict(MODELS.build({**MODEL}).state_dict())


def save_random_model(lab, path: Path, seed: int = 0) -> Path:
    """Write a model file of random weights for the lab's pairs.

    BatchNorm's statistics are random, too. The last layer is scaled so that the scores of segments
    differ.
    """
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
    trained_on = {"split": "train", "segments": 0, "epochs": 0, "seed": seed, "load_from": None}
    weights, saved_config = model.state_dict(), model_config(config)
    save_model(TrainedModel(weights, pairs, 97, 300, saved_config, trained_on), path)
    return path


def predicted(lab, model: Path, listed: Path | str, out: Path, **settings) -> Predictions:
    """Predict a list of segments of the lab with a model file, and read the file `out`."""
    chosen = PredictSettings(**{"workers": 0} | settings)
    predict(
        model,
        listed,
        out,
        split="val",
        video_root=lab.root,
        index_dir=f"{lab.results}/scan",
        settings=chosen,
    )
    return read_predictions(out, "val", model=model, clean=listed)


@contextlib.contextmanager
def saved_for_backward(model: torch.nn.Module) -> Iterator[dict[int, int]]:
    """Count the bytes that forward passes keep for their backward passes, without the weights.

    Yields:
        A dict that is filled during the block: the bytes of each storage, by its address. A storage
        that several tensors share counts once.
    """
    # `_cdata` is the address of the object in C++ that is the storage.
    weight_addresses = {value.untyped_storage()._cdata for value in model.parameters()}
    storage_bytes: dict[int, int] = {}

    def note_storage(tensor: torch.Tensor) -> torch.Tensor:
        """Note the storage of a tensor that a forward pass keeps, and keep it as it is."""
        storage = tensor.untyped_storage()
        if storage._cdata not in weight_addresses:
            storage_bytes[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note_storage, lambda tensor: tensor):
        yield storage_bytes
