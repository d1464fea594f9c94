"""Predict segments: the items of a split or of complete videos, in one or several processes.

| part of a prediction | module |
|---|---|
| what computes a row: a model, or an encoder | encoder.py |
| the pass over the clips of the items | worker.py |
| which segments, in items of one video each, with a file for each finished item | shards.py |
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from epic100.base.errors import EpicError
from epic100.base.machine import usable_cores, workers_for
from epic100.base.processes import Placement, choose_device, look_for_gpus, run_processes
from epic100.data.segment_list import read_clean_list
from epic100.model.model_file import TrainedModel, load_model, split_outputs
from epic100.model.views import chosen_views, cost_of_views
from epic100.prediction.encoder import MODEL, source_of_model
from epic100.prediction.shards import PredictionJob, work_items
from epic100.scoring.predictions import Predictions, write_predictions
from epic100.settings.prediction import PredictSettings
from epic100.video.sheet import find_files

log = logging.getLogger(__name__)


def predict(
    model_path: str | os.PathLike,
    segments: str | os.PathLike,
    out: str | os.PathLike,
    *,
    split: str,
    video_root: str,
    index_dir: str,
    settings: PredictSettings,
    modules: Mapping[str, Any] | None = None,
    requested_gpus: int = 0,
) -> None:
    """Predict every segment of a clean list and write the predictions file.

    The scores of finished items stay in `{split}.shards` in the file's folder. So an interrupted
    prediction resumes where it was, and one of the last three predictions is not computed again.
    Scores do not depend on the number of processes or workers, or on interruptions. On a CPU, the
    number of torch's threads changes their last digits (by 1e-6). If all segments of a split were
    dropped, the file has no rows.

    Args:
        model_path: The model file.
        segments: The clean list.
        out: The file to write, `results/predictions/{split}.pt`.
        split: Name of the split.
        video_root: The folder of the videos.
        index_dir: The folder of the frame indexes.
        settings: The `predict:` section.
        modules: The config's `modules` section.
        requested_gpus: Number of GPUs that the rule requests.

    Raises:
        EpicError: Torch cannot use a GPU that was granted or requested, or a process fails.
    """
    trained = load_model(model_path)
    source = source_of_model(model_path, trained)
    table = read_clean_list(segments)
    clips, crops = chosen_views(source.pipeline, settings.clips, settings.crops)
    log.info(cost_of_views(clips, crops, len(table)))
    job = PredictionJob(
        source,
        segments=os.fspath(segments),
        out=os.fspath(out),
        video_root=video_root,
        index_dir=index_dir,
        settings=settings.model_copy(update={"clips": clips}),
        items=work_items(table, find_files(table["path"].unique(), video_root)),
        modules=modules,
    )
    rows = predict_rows(job, requested_gpus, split)
    ids = table["narration_id"].tolist()
    write_predictions(predictions_from_rows(split, ids, rows, trained, source.digest), out)


WORKERS_ON_CPU = 2
# Number of segments of a batch, unless `predict: batch_size:` is set.
BATCH_ON_CPU, BATCH_ON_GPU = 8, 32
# Another process may remove shards while this one uses them, as a timeline does at its end. Missing
# shards are then made again, at most this number of times.
TRIES = 3


def predict_rows(job: PredictionJob, requested_gpus: int, label: str) -> torch.Tensor:
    """Compute the rows of a job's segments that have no shard yet, and read all of them.

    All shards stay; the caller may remove them once it has stored the result.

    Args:
        job: The complete work. Its items together have every line of the segment list once.
        requested_gpus: Number of GPUs that the rule requests.
        label: Name of the predicted split or video, for the progress display.

    Returns:
        float32 [lines of the list, columns], log-probabilities or features.

    Raises:
        EpicError: Torch cannot use a GPU that was granted or requested; a process fails; or shards
            disappear.
    """
    settings = job.settings
    gpus = look_for_gpus(requested_gpus)
    placement = choose_device("predict", settings.device, settings.gpus, gpus)

    # The rows of each item, by its name: those of an earlier run first.
    job.keep_newest_shards()
    rows_of_item = job.read_shards()
    if rows_of_item:
        log.info(f"going on: {len(rows_of_item)} of {len(job.items)} parts are predicted already")
    for _ in range(TRIES):
        items_to_do = [item for item in job.items if item.name not in rows_of_item]
        if not items_to_do:
            break
        rest = replace(job, items=items_to_do)
        _compute(rest, placement, label)
        rows_of_item.update(rest.read_shards())
    if len(rows_of_item) < len(job.items):
        raise EpicError(f"{job.shards}: shards in it are gone; run the same command again")

    # The rows in the order of the segment list.
    if not job.items:
        return torch.empty(0, job.source.outputs)
    columns = rows_of_item[job.items[0].name].shape[1]
    rows = torch.empty(sum(len(item.lines) for item in job.items), columns)
    for item in job.items:
        rows[item.lines] = rows_of_item[item.name]
    return rows


def _compute(job: PredictionJob, placement: Placement, label: str) -> None:
    """Compute the rows of all items of a job, in this process or in several."""
    # The import of MMAction2 takes seconds, so it waits until there is something to compute.
    from epic100.prediction.worker import predict_items

    defaults = {"workers": WORKERS_ON_CPU, "batch_size": BATCH_ON_CPU}
    if placement.device == "cuda":
        defaults["workers"] = workers_for(usable_cores(), placement.processes)
        # The memory that a frozen encoder needs is not known, so only a model gets large batches.
        if job.source.encoder == MODEL:
            defaults["batch_size"] = BATCH_ON_GPU
    unset = {key: value for key, value in defaults.items() if getattr(job.settings, key) is None}
    settings = job.settings.model_copy(update=unset)
    job = replace(job, settings=settings, device=placement.device)
    if placement.processes == 1:
        predict_items(job, label)
    else:
        arguments = {"job": job, "label": label}
        run_processes(predict_items, arguments, placement, folder=Path(job.out).parent)


def predictions_from_rows(
    split: str, ids: list[str], rows: torch.Tensor, trained: TrainedModel, digest_of_model: str
) -> Predictions:
    """Make the predictions of a split from the log-probabilities of all outputs of a model.

    Args:
        split: Name of the split.
        ids: Ids of the N segments.
        rows: float32 [N, all outputs], log-probabilities.
        trained: The model.
        digest_of_model: The digest of the model (`model_file.digest`).

    Returns:
        The predictions. For a model without outputs for pairs, a pair has the product of the
        probabilities of its verb and its noun, normalised over the pairs.
    """
    log_probs = split_outputs(rows, trained.outputs)
    pair_log_probs = log_probs.get("pair")
    if pair_log_probs is None:
        verbs, nouns, _ = torch.tensor(trained.pairs).unbind(1)
        product = log_probs["verb"][:, verbs] + log_probs["noun"][:, nouns]
        pair_log_probs = product.log_softmax(dim=1)
    return Predictions(
        split,
        ids,
        pair_log_probs,
        trained.pairs,
        trained.num_verbs,
        trained.num_nouns,
        trained.trained_on,
        digest_of_model,
        verb_log_probs=log_probs.get("verb"),
        noun_log_probs=log_probs.get("noun"),
        pair_head="pair" in log_probs,
    )
