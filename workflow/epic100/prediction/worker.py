"""Predict some videos of a split one after the other, and write a shard for each."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch.utils.data import DataLoader

from epic100.base.errors import EpicError
from epic100.base.gpu import unusable
from epic100.base.own_modules import use_modules
from epic100.clips.collate import collate_in_one
from epic100.clips.dataset import EpicSegmentVideoDataset
from epic100.model.config_text import parse_config
from epic100.model.foreign_config import clean_model, clean_pipeline, test_pipeline_of
from epic100.model.foreign_model import build_foreign
from epic100.model.layout import lay_out_channels_last
from epic100.model.model_file import load_model
from epic100.prediction.job import Job
from epic100.prediction.shards import Shards
from epic100.prediction.views import frames_of_2d, mean_log_probs, view_pipeline


def predict_videos(job: Job, report: Callable[[int], None]) -> None:
    """Write the shard of every video of the job.

    Args:
        job: The job of this process.
        report: Gets the number of segments of each finished batch.

    Raises:
        EpicError: A frame cannot be decoded, or the model returns NaN or infinity. Videos finished
            before are kept.
    """
    import epic100.clips.registered
    import epic100.model.registered  # noqa: F401

    init_default_scope("mmaction")
    torch.set_num_threads(job.threads)
    if why := unusable(job.device):
        raise EpicError(f"torch cannot compute on {job.device}: {why}")
    trained = load_model(job.model)
    modules = use_modules(job.modules)
    config = parse_config(trained.config, str(job.model), "train it again with this workflow")
    cleaned = clean_model(config.get("model"), job.model, modules)
    built = build_foreign(cleaned, trained.state_dict, "its config", job.model)
    model: Any = built.eval().to(job.device)
    if job.device == "cpu":  # twice as fast on a CPU; not measured on GPUs
        lay_out_channels_last(model.backbone)
    shards = Shards(job.out, job.run)
    steps = _batches(job)
    heads = trained.outputs
    loader: DataLoader = DataLoader(
        _dataset(config, job, modules),
        batch_sampler=[lines for _, lines, _ in steps],
        num_workers=job.workers,
        collate_fn=collate_in_one,
    )
    frames = frames_of_2d(test_pipeline_of(config))  # checked by `_dataset`
    rows: list[torch.Tensor] = []
    for batch, (video, _, last) in zip(loader, steps, strict=True):
        rows.append(mean_log_probs(model, batch["inputs"], job.batch_size, frames, heads))
        if rows[-1].shape[1] != sum(heads.values()):
            raise EpicError(
                f"{job.model}: its model gives {rows[-1].shape[1]} scores a segment, its pair "
                f"table has {len(trained.pairs)} pairs; the two are not of one training"
            )
        bad = (~rows[-1].isfinite().all(dim=1)).nonzero().flatten().tolist()
        if bad:
            raise EpicError(
                f"{batch['data_samples'][bad[0]].narration_id}: {job.model} gives NaN or infinity; "
                "look at the training's loss and train again"
            )
        report(len(rows[-1]))
        if last:
            shards.write(video, job.videos[video][0], torch.cat(rows))
            rows = []


def _batches(job: Job) -> list[tuple[str, list[int], bool]]:
    """The batches as (video, lines, whether it is the video's last).

    No batch spans two videos. So a row does not depend, not even in its last digit, on which other
    videos this process predicts.
    """
    return [
        (video, lines[start : start + job.batch_size], start + job.batch_size >= len(lines))
        for video, (_, lines) in job.videos.items()
        for start in range(0, len(lines), job.batch_size)
    ]


def _dataset(config: Config, job: Job, modules: Sequence[str]) -> EpicSegmentVideoDataset:
    """The dataset of the job's segments; only the pipeline comes from the model file."""
    from mmaction.registry import DATASETS

    steps, _ = clean_pipeline(test_pipeline_of(config), job.model, modules)
    spec = {
        "type": "EpicSegmentVideoDataset",
        "ann_file": job.segments,
        "data_root": job.video_root,
        "test_mode": True,
        "max_broken": 0.0,  # a substitute's scores would be submitted for the wrong segment
        "pipeline": view_pipeline(steps, job.clips, job.crops, job.index_dir),
    }
    return DATASETS.build(spec)
