"""Predict videos of a split one after the other, and write a shard for each."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from mmaction.registry import DATASETS
from mmengine.registry import init_default_scope
from torch.utils.data import DataLoader

from epic100.base.errors import EpicError
from epic100.base.gpu import unusable
from epic100.base.own_modules import use_modules
from epic100.clips.dataset import EpicSegmentVideoDataset, collate_in_one
from epic100.clips.faults import ended_workers_are_errors
from epic100.model.foreign import clean_dataset
from epic100.model.forward import Compute, open_model
from epic100.model.hugging_face import with_encoder
from epic100.model.model_file import load_model
from epic100.model.views import view_pipeline
from epic100.prediction.encoder import (
    clip_pipeline,
    encode_clips,
    encoder_class,
    pooled_tokens,
)
from epic100.prediction.hugging_face import HF, HuggingFaceEncoder
from epic100.prediction.probe_model import build_probe, open_probe
from epic100.prediction.shards import Job, Shards


def predict_videos(job: Job, report: Callable[[int], object]) -> None:
    """Predict every video of a job, and write a shard for each.

    Args:
        job: The job of this process.
        report: A function that is called with the number of segments of each finished batch.

    Raises:
        EpicError: A frame cannot be decoded, a process that reads clips was killed, or the model
            returns NaN or infinity. The shards of finished videos stay.
    """
    init_default_scope("mmaction")
    torch.set_num_threads(job.threads)
    if why := unusable(job.device):
        raise EpicError(f"torch cannot compute on {job.device}: {why}")
    if job.device != "cpu":
        # Otherwise, pinning batches in memory would start CUDA on the first GPU.
        torch.cuda.set_device(job.device)
    compute, pipeline, dataset = _open_encoder(job, use_modules(job.modules))
    shards = Shards(job.out, job.run)
    batches = _batches(job)
    loader = _loader(job, dataset, pipeline, [row_numbers for _, row_numbers, _ in batches])
    video_rows: list[torch.Tensor] = []
    with ended_workers_are_errors():
        for batch, (video, _, is_last) in zip(loader, batches, strict=True):
            # The head of TRN draws relations of frames from NumPy, even in a test. With the same
            # seed for each batch, its scores do not depend on earlier batches.
            np.random.seed(0)
            batch_rows = compute(batch["inputs"])
            # Without an encoder, `compute` gives scores. With one, it gives features, of which each
            # clip keeps a grid of tokens, or one vector if the job has no grid.
            if job.encoder:
                batch_rows = pooled_tokens(batch_rows, job.grid)
            if job.grid:
                # The tokens of a segment's clips become one sequence.
                batch_rows = batch_rows.reshape(len(batch["inputs"]), -1, batch_rows.shape[-1])
            video_rows.append(batch_rows)
            _refuse_infinite(batch_rows, batch, job)
            report(len(batch_rows))
            if is_last:
                stamp, _ = job.videos[video]
                shards.write(video, stamp, torch.cat(video_rows))
                video_rows = []


def _loader(
    job: Job, dataset: dict[str, Any], pipeline: list[dict], batches: list[list[int]]
) -> DataLoader:
    """Make the loader of a job's clips.

    Args:
        job: The job of this process.
        dataset: The type of the data set, and the arguments that only this class takes.
        pipeline: The pipeline of one clip of the model or encoder.
        batches: The line numbers of the segments of each batch.
    """
    segments = {
        **dataset,
        "ann_file": job.segments,
        "pipeline": view_pipeline(pipeline, job.settings.clips or 1, job.settings.crops),
        "data_root": job.video_root,
        "index_dir": job.index_dir,
        "test_mode": True,
        # If a segment does not decode, no other one may replace it: its scores would be submitted
        # for the wrong segment.
        "max_broken": 0.0,
    }
    return DataLoader(
        DATASETS.build(segments),
        batch_sampler=batches,
        num_workers=job.settings.workers or 0,
        collate_fn=collate_in_one,
        pin_memory=job.device != "cpu",
    )


def _refuse_infinite(batch_rows: torch.Tensor, batch: dict, job: Job) -> None:
    """Raise an EpicError that names the first segment of a batch with NaN or infinity."""
    is_finite = batch_rows.isfinite().flatten(1).all(dim=1)
    if bad_segments := (~is_finite).nonzero().flatten().tolist():
        raise EpicError(
            f"{batch['data_samples'][bad_segments[0]].narration_id}: "
            f"{job.own_encoder or job.model} gives NaN or infinity; look at the training's "
            "loss and train again"
        )


def _batches(job: Job) -> list[tuple[str, list[int], bool]]:
    """List the batches of a job: (video, line numbers, whether it is the video's last batch).

    A batch has segments of one video alone. So a row does not depend, not even in its last digit,
    on which other videos this process predicts.
    """
    size = job.settings.batch_size or 1
    return [
        (video, lines[start : start + size], start + size >= len(lines))
        for video, (_, lines) in job.videos.items()
        for start in range(0, len(lines), size)
    ]


def _open_encoder(job: Job, modules: Sequence[str]) -> tuple[Compute, list[dict], dict[str, Any]]:
    """Open the model or encoder of a job.

    Args:
        job: The job of this process.
        modules: Names of the user's own modules, which are imported already.

    Returns:
        Its function of clips, its pipeline, and the type and the own arguments of its data set.
    """
    dataset: dict[str, Any] = {"type": EpicSegmentVideoDataset.__name__}
    max_batch_size = job.settings.batch_size or 1
    if not job.own_encoder:
        trained = with_encoder(load_model(job.model), job.settings.encoder)
        # An encoder is named for features alone, and a probe computes scores alone.
        gives_features = bool(job.encoder)
        if not gives_features and (probe := build_probe(trained)):
            opened = open_probe(
                trained, probe, job.model, job.device, max_batch_size, job.settings.encoder
            )
            return *opened, dataset
        opened = open_model(trained, job.model, job.device, max_batch_size, modules, gives_features)
        named = trained.config["test_dataloader"]["dataset"]
        return *opened, clean_dataset(named, EpicSegmentVideoDataset, job.model)
    # `predict_videos` has put the folder of the user's modules on the path already.
    class_or_folder: Any = (
        HuggingFaceEncoder(job.model)
        if job.encoder == HF
        else encoder_class(job.encoder, modules=None)
    )
    encoder = class_or_folder(job.device)
    features_of = partial(
        encode_clips, encoder, batch_size=max_batch_size, name=job.encoder, grid=job.grid
    )
    return features_of, clip_pipeline(class_or_folder), dataset
