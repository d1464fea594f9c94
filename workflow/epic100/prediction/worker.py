"""The pass over the clips of a prediction's items, one video after the other; a shard for each."""

import math
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from mmaction.registry import DATASETS
from mmengine.dist import get_dist_info
from mmengine.registry import init_default_scope
from torch.utils.data import DataLoader

from epic100.base.errors import EpicError
from epic100.base.log import Progress
from epic100.base.own_modules import use_modules
from epic100.base.processes import unusable
from epic100.base.stop import ended_workers_are_errors
from epic100.clips.dataset import EpicSegmentVideoDataset, collate_in_one
from epic100.model.forward import Compute, open_model
from epic100.model.hugging_face import with_encoder
from epic100.model.untrusted import clean_dataset
from epic100.model.views import view_pipeline
from epic100.prediction.encoder import encode_clips, open_encoder
from epic100.prediction.shards import PredictionJob


def predict_items(job: PredictionJob, label: str) -> None:
    """Compute the rows of a job's items, and write a shard for each.

    Of several processes (`base.processes`), each takes an equal share of the items.

    Args:
        job: The prediction, with the number of loader processes and the batch size.
        label: Name of the predicted split or video, for the progress display.

    Raises:
        EpicError: A frame cannot be decoded, a process that reads clips was killed, or the model
            returns NaN or infinity. The shards of finished items stay.
    """
    init_default_scope("mmaction")
    if why := unusable(job.device):
        raise EpicError(f"torch cannot compute on {job.device}: {why}")
    rank, processes = get_dist_info()
    items = job.items[rank::processes]
    share = f" ({rank + 1} of {processes} processes)" if processes > 1 else ""
    bar = Progress(f"predict {label}{share}", sum(len(item.lines) for item in items), "segments")

    # A batch has segments of one item, some or all. A row therefore does not depend, not even in
    # its last digit, on which other items this process computes.
    size = job.settings.batch_size or 1
    batches = []
    for item in items:
        for first in range(0, len(item.lines), size):
            batches.append(item.lines[first : first + size])
    opened = _open(job)
    loaded = iter(_loader(job, opened, batches))

    with ended_workers_are_errors():
        for item in items:
            rows_of_item = []
            for clips in islice(loaded, math.ceil(len(item.lines) / size)):
                # The head of TRN draws relations of frames from NumPy, even in a test. With the
                # same seed for each batch, its scores do not depend on earlier batches.
                np.random.seed(0)
                rows = opened.compute(clips["inputs"])
                _reject_infinite(rows, clips, job)
                rows_of_item.append(rows)
                bar.update(len(rows))
            job.write_shard(item, torch.cat(rows_of_item))
    bar.close()


class Opened(NamedTuple):
    """A model or an encoder that is ready to compute.

    Attributes:
        compute: Turns the clips of segments into rows.
        pipeline: The pipeline of one clip.
        dataset: The type of the data set, and the arguments that only this class takes.
    """

    compute: Compute
    pipeline: list[dict]
    dataset: dict


def _open(job: PredictionJob) -> Opened:
    """Open the model or the encoder of a job on its device."""
    source, batch_size = job.source, job.settings.batch_size or 1
    modules = use_modules(job.modules)
    if source.trained is None:
        encoder = open_encoder(source, job.device)
        features = partial(encode_clips, encoder, batch_size=batch_size, name=source.encoder)
        return Opened(features, source.pipeline, {"type": EpicSegmentVideoDataset.__name__})
    trained = with_encoder(source.trained, job.settings.encoder)
    compute, pipeline = open_model(
        trained, source.path, job.device, batch_size, modules, job.gives_features
    )
    named = trained.config["test_dataloader"]["dataset"]
    return Opened(compute, pipeline, clean_dataset(named, EpicSegmentVideoDataset, source.path))


def _loader(job: PredictionJob, opened: Opened, batches: list[list[int]]) -> DataLoader:
    """Make the loader of the clips of batches."""
    settings = job.settings
    segments = {
        **opened.dataset,
        "ann_file": job.segments,
        "pipeline": view_pipeline(opened.pipeline, settings.clips or 1, settings.crops),
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
        num_workers=settings.workers or 0,
        collate_fn=collate_in_one,
        pin_memory=job.device != "cpu",
    )


def _reject_infinite(rows: torch.Tensor, clips: dict, job: PredictionJob) -> None:
    """Raise an EpicError that names the first segment of a batch with NaN or infinity."""
    is_finite = rows.isfinite().all(dim=1)
    if bad_segments := (~is_finite).nonzero().flatten().tolist():
        raise EpicError(
            f"{clips['data_samples'][bad_segments[0]].narration_id}: "
            f"{job.source.name} gives NaN or infinity; check the training's loss and train again"
        )
