"""Predict: a trained model over the clean segments of a split, any number of clips and crops."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from torch.utils.data import DataLoader

from epic100.atomic import atomic_path
from epic100.errors import EpicError
from epic100.model_file import TrainedModel, load_model
from epic100.rule_log import Progress

FORMAT = "epic100 predictions 1"


@dataclass(frozen=True)
class PredictSettings:
    """The `predict:` section of the config: `clips` spread evenly over each segment, times `crops`
    (1: centre, 3: along the long side), averaged in probability."""

    clips: int = 1
    crops: int = 1
    batch_size: int = 8
    workers: int = 0


@dataclass(frozen=True)
class Predictions:
    """Pair log-probabilities of the segments of one split.

    `log_probs` float32 [N, P], rows normalised; `pairs` (verb, noun, training count) by column.
    """

    split: str
    narration_ids: list[str]
    log_probs: torch.Tensor
    pairs: list[tuple[int, int, int]]
    num_verbs: int
    num_nouns: int
    trained_on: dict


def predict(
    model_path: str | os.PathLike,
    segments: str | os.PathLike,
    out: str | os.PathLike,
    *,
    split: str,
    video_root: str,
    index_dir: str,
    settings: PredictSettings,
) -> None:
    """Write `results/predictions/{split}.pt` for every segment of the clean list `segments`.

    A split none of whose segments is readable gives a file of no rows, not an error.
    """
    import epic100.mmaction  # noqa: F401  (registers models, datasets and transforms)

    init_default_scope("mmaction")
    trained = load_model(model_path)
    config = Config.fromstring(trained.config, ".py")
    ids: list[str] = []
    rows: list[torch.Tensor] = []
    if Path(segments).stat().st_size:
        dataset = _dataset(config, segments, video_root, index_dir, settings)
        loader = DataLoader(
            dataset,
            batch_size=settings.batch_size,
            num_workers=settings.workers,
            collate_fn=pseudo_collate,
        )
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = _model(config, trained).to(device)
        bar = Progress(f"predict {split}", len(dataset), "segments")
        for batch in loader:
            rows.append(_log_probs(model, batch).cpu())
            ids += [sample.narration_id for sample in batch["data_samples"]]
            bar.update(len(rows[-1]))
        bar.close()
    log_probs = torch.cat(rows) if rows else torch.empty(0, len(trained.pairs))
    write_predictions(
        Predictions(
            split, ids, log_probs, trained.pairs, trained.num_verbs, trained.num_nouns,
            trained.trained_on,
        ),
        out,
    )  # fmt: skip


def write_predictions(predictions: Predictions, path: str | os.PathLike) -> None:
    """Write predictions, whole or not at all; tensors and plain Python only."""
    with atomic_path(path) as temporary:
        torch.save({"format": FORMAT, **vars(predictions)}, temporary)


def read_predictions(path: str | os.PathLike, split: str) -> Predictions:
    """Read predictions of `split`. Raises EpicError for another file or another split's."""
    path = Path(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is not its own
        raise EpicError(
            f"{path}: not readable as predictions ({type(error).__name__}); make it again with "
            f"`snakemake -R {path}`"
        ) from error
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise EpicError(f"{path}: not a predictions file; expected what the rule predict writes")
    predictions = Predictions(**content)
    if predictions.split != split:
        raise EpicError(
            f"{path}: predictions of split {predictions.split!r}, expected {split!r}; see "
            "`export: split:` in the config"
        )
    return predictions


@torch.inference_mode()
def _log_probs(model, batch: dict) -> torch.Tensor:
    """float32 [B, P]: views of a segment averaged in probability, in log space."""
    data = model.data_preprocessor(batch, False)
    inputs = data["inputs"]  # [B, views, C, T, H, W]
    features, _ = model.extract_feat(inputs, test_mode=True)
    logits = model.cls_head(features).double().log_softmax(dim=1)
    views = logits.reshape(len(inputs), -1, logits.shape[1])
    mean = views.logsumexp(dim=1) - torch.tensor(float(views.shape[1])).log()
    return mean.float()


def _model(config: Config, trained: TrainedModel):
    from mmaction.registry import MODELS

    model = MODELS.build(config.model)
    model.load_state_dict(trained.state_dict)
    return model.eval()


def _dataset(config, segments, video_root, index_dir, settings):
    from mmaction.registry import DATASETS

    spec = dict(config.test_dataloader.dataset)
    spec.update(
        ann_file=str(segments),
        data_root=video_root,
        pairs=None,
        test_mode=True,
        max_broken=0.0,  # a stand-in's scores would be submitted under another segment's name
        pipeline=views(spec["pipeline"], settings.clips, settings.crops, index_dir),
    )
    return DATASETS.build(spec)


def views(pipeline: Sequence[dict], clips: int, crops: int, index_dir: str) -> list[dict]:
    """The test pipeline with `clips` clips a segment and 1 (centre) or 3 crops of each.

    Three crops are squares of the resized short side, side by side along the long one.
    """
    if crops not in (1, 3):
        raise EpicError(f"predict: crops is {crops}; expected 1 (centre) or 3")
    steps, short_side = [], None
    for step in pipeline:
        step = dict(step)
        if step["type"] == "SampleFrames":
            step["num_clips"] = clips
        elif step["type"] == "OpenSegment":
            step["index_dir"] = index_dir
        elif step["type"] == "Resize":
            short_side = min(side for side in step["scale"] if side > 0)
        elif step["type"] == "DecodeSegment":
            short_side = step.get("short_side")
        elif step["type"] == "CenterCrop" and crops == 3:
            step = {"type": "ThreeCrop", "crop_size": short_side or step["crop_size"]}
        steps.append(step)
    return steps
