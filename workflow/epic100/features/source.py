"""What gives features: a model file, a folder of Hugging Face, or an encoder of the user's."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from epic100.model.model_file import digest, load_model
from epic100.prediction.encoder import MODEL, clip_pipeline, encoder_class, fingerprint
from epic100.prediction.hugging_face import HF, HuggingFaceFolder
from epic100.prediction.views import one_view_pipeline

START = "start"  # the start weights of `train:`, without a training


@dataclass(frozen=True)
class Source:
    """What gives the features.

    Attributes:
        encoder: "model", "hf", or `module:Class` of the user's.
        path: The model file, or the folder of `hf`; "" for an encoder of the user's.
        digest: SHA-256 of the model file, or the encoder's fingerprint.
        pipeline: The steps that make a clip ready.
        load_from: Start weights of the model's training, if any; of an encoder its name.
    """

    encoder: str
    path: str
    digest: str
    pipeline: Any
    load_from: str | None


def source_of(
    encoder: str, model: str | os.PathLike | None, modules: Mapping[str, Any] | None = None
) -> Source:
    """Look up what gives the features.

    Args:
        encoder: The `encoder` of `FeatureSettings`.
        model: The model file, or the folder of `hf`; None for an encoder of the user's.
        modules: The config's `modules` section.

    Raises:
        EpicError: The model or the encoder cannot be used.
    """
    if encoder == HF and model is not None:
        folder = HuggingFaceFolder(model)
        name = f"{HF} {folder.folder.resolve().name}"
        return Source(HF, os.fspath(model), folder.fingerprint, clip_pipeline(folder), name)
    if encoder not in (MODEL, START) or model is None:
        found = encoder_class(encoder, modules)
        return Source(encoder, "", fingerprint(found), clip_pipeline(found), encoder)
    trained = load_model(model)
    pipeline = one_view_pipeline(trained.config, model)
    load_from = trained.trained_on.get("load_from")
    return Source(MODEL, os.fspath(model), digest(model), pipeline, load_from)
