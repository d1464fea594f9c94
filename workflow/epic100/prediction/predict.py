"""Predict a split: divide its videos among processes, then collect their shards into one file."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from epic100.base.errors import EpicError
from epic100.base.gpu import gpus_to_use, look_for_gpus
from epic100.base.log import Progress
from epic100.base.machine import usable_cores, workers_for
from epic100.base.ranks import private_folder, run_ranks
from epic100.model.model_file import (
    TrainedModel,
    digest,
    load_model,
    split_outputs,
    test_pipeline_of,
)
from epic100.model.views import chosen_views, cost_of_views
from epic100.prediction.shards import Job, Shards, run_key, video_stamp
from epic100.scoring.predictions import Predictions, write_predictions
from epic100.segments.segment_list import read_clean_list, row_numbers_by
from epic100.settings import PredictSettings
from epic100.video.sheet import find_files

log = logging.getLogger(__name__)
WORKERS_ON_CPU = 2
# A batch has this many segments, unless `predict: batch_size:` is set.
BATCH_ON_CPU, BATCH_ON_GPU = 8, 32
# Another process may remove shards while this one uses them, as a timeline does at its end. Missing
# shards are then made again, at most this often.
TRIES = 3


def run_jobs(jobs: Sequence[Job], bar: Progress) -> None:
    """Run all jobs of a prediction, each in a process of its own if there are several.

    If one process fails, the others are ended. The shards of finished videos stay.

    Args:
        jobs: The jobs.
        bar: The progress display of finished segments.

    Raises:
        EpicError: A job or its process failed.
    """
    if len(jobs) == 1:
        # The import of MMAction2 takes seconds, and several processes import it themselves. So it
        # is not at the top of this module.
        from epic100.prediction.worker import predict_videos

        predict_videos(jobs[0], bar.update)
        return
    with private_folder() as folder:
        # All processes append one byte per finished segment, so the file's size is the count.
        finished_count_file = Path(folder, "done")
        finished_count_file.touch()
        run_ranks(
            [(predict_part, job, finished_count_file) for job in jobs],
            environments=[{}] * len(jobs),
            look=lambda: bar.update(finished_count_file.stat().st_size - bar.done),
        )


def predict_part(job: Job, finished_count_file: Path) -> None:
    """Run the job of one process of several, and append a byte to the file per finished segment."""
    from epic100.prediction.worker import predict_videos

    # In append mode, processes do not overwrite each other's bytes. Without a buffer, the file
    # grows at once.
    with finished_count_file.open("ab", buffering=0) as file:
        predict_videos(job, lambda count: file.write(bytes(count)))


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

    The scores of finished videos stay in `{split}.shards` beside the file. So an interrupted
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
    trained, model_digest = load_model(model_path), digest(model_path)
    table = read_clean_list(segments)
    pipeline = test_pipeline_of(trained.config, model_path)
    clips, crops = chosen_views(pipeline, settings.clips, settings.crops)
    log.info(cost_of_views(clips, crops, len(table)))
    job = Job(
        model=str(model_path),
        segments=str(segments),
        out=str(out),
        run=run_key(model_digest, clips, crops),
        video_root=video_root,
        index_dir=index_dir,
        settings=settings.model_copy(update={"clips": clips}),
        videos=videos_of(table, video_root),
        modules=modules,
    )
    log_probs = predict_rows(job, requested_gpus, sum(trained.outputs.values()), split)
    predictions = predictions_of(
        split, table["narration_id"].tolist(), log_probs, trained, model_digest
    )
    write_predictions(predictions, out)


def predict_rows(
    job: Job, requested_gpus: int, outputs: int, label: str, noun_for_keys: str = "videos"
) -> torch.Tensor:
    """Predict the segments of a job in one or several processes, and join their rows in order.

    Shards of earlier runs are used. All shards stay; the caller may remove them once it has stored
    the result.

    Args:
        job: The whole work. A key of its `videos` is the path of a video, or the name of a part of
            a video's clips. Each key has a shard; together they have every line of the list once.
        requested_gpus: Number of GPUs that the rule requests.
        outputs: Number of outputs of the model, for a list without segments.
        label: Name of the predicted split or video, for the progress display.
        noun_for_keys: The log calls the keys of `videos` by this noun: "videos" or "parts".

    Returns:
        float32 [lines of the list, outputs], log-probabilities or features.

    Raises:
        EpicError: A process fails, or shards disappear.
    """
    rows_of_key = complete_shards(job, requested_gpus, label, noun_for_keys)
    if not rows_of_key:
        return torch.empty(0, outputs)
    lines = [line for _, lines_of_key in job.videos.values() for line in lines_of_key]
    rows = torch.cat([rows_of_key[key] for key in job.videos])
    # The rows are in the order of the shards, and each one is moved to its line in the list.
    return torch.empty_like(rows).index_copy_(0, torch.tensor(lines), rows)


def complete_shards(
    job: Job, requested_gpus: int, label: str, noun_for_keys: str = "videos"
) -> dict[str, torch.Tensor]:
    """Predict the videos of a job that have no shard, in one or several processes; read all shards.

    Args:
        job: As for `predict_rows`. A shard whose stamp is not that in `job.videos` is missing.
        requested_gpus: Number of GPUs that the rule requests.
        label: Name of the predicted split or video, for the progress display.
        noun_for_keys: The log calls the keys of `videos` by this noun: "videos" or "parts".

    Returns:
        The rows of each shard by its key. Tokens, which may be larger than the memory, stay on the
        disk.

    Raises:
        EpicError: Torch cannot use a GPU that was granted or requested; a process fails; or shards
            disappear.
    """
    gpus = gpus_to_use(
        "predict", job.settings.device, job.settings.gpus, look_for_gpus(requested_gpus)
    )
    shards = Shards(job.out, job.run)
    shards.keep_newest()
    rows_of_key: dict[str, torch.Tensor] = {}
    # Another process may remove a shard while others are predicted. Missing shards are therefore
    # predicted up to `TRIES` times, and the round after the last try only reads.
    for attempt in range(TRIES + 1):
        _read_new_shards(shards, job, rows_of_key)
        work_left = {
            key: stamp_and_numbers
            for key, stamp_and_numbers in job.videos.items()
            if key not in rows_of_key
        }
        if attempt == 0 and rows_of_key:
            log.info(
                f"going on: {len(rows_of_key)} of {len(job.videos)} {noun_for_keys} are predicted "
                "already"
            )
        if not work_left:
            return rows_of_key
        if attempt < TRIES:
            segments_left = sum(len(row_numbers) for _, row_numbers in work_left.values())
            bar = Progress(f"predict {label}", segments_left, "segments")
            run_jobs(_divide(replace(job, videos=work_left), gpus), bar)
            bar.close()
    raise EpicError(f"{shards.path(min(work_left))}: gone or changed since it was made; run again")


def _read_new_shards(shards: Shards, job: Job, rows_of_key: dict[str, torch.Tensor]) -> None:
    """Add the rows of those shards that can be read, and were not yet, to `rows_of_key`.

    A shard is not read twice, since another process may have removed it in between.
    """
    for key, (stamp, _) in job.videos.items():
        if key not in rows_of_key:
            rows = shards.read(key, stamp, mapped=bool(job.grid))
            if rows is not None:
                rows_of_key[key] = rows


def predictions_of(
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


def videos_of(table: pd.DataFrame, video_root: str) -> dict[str, tuple[str, list[int]]]:
    """Find the line numbers of each video of a segment list, and the stamp of its shard.

    Args:
        table: The segment list.
        video_root: The folder of the videos.

    Returns:
        By the video's path in the list: the stamp of its shard, and its line numbers in the list.
    """
    lines_of_path = row_numbers_by(table, "path")
    files = find_files(lines_of_path, video_root)
    videos = {}
    for path, lines in lines_of_path.items():
        starts, stops = (table[name].iloc[lines].tolist() for name in ("start", "stop"))
        videos[path] = (video_stamp(files[path], starts, stops), lines.tolist())
    return videos


def _divide(job: Job, gpus: int) -> list[Job]:
    """Split a job into one per process, with similar numbers of segments and a device each."""
    # With `predict: device: cpu`, the key `gpus` is the number of processes on the CPU.
    processes_on_cpu = job.settings.gpus if job.settings.device == "cpu" else None
    count = min(gpus or processes_on_cpu or 1, len(job.videos))
    videos_of_process: list[dict] = [{} for _ in range(count)]
    segments_of_process = [0] * count
    # Videos with many segments come first, and each goes to the process with the fewest segments.
    segment_counts = {video: len(lines) for video, (_, lines) in job.videos.items()}
    for video in sorted(segment_counts, key=segment_counts.__getitem__, reverse=True):
        process = segments_of_process.index(min(segments_of_process))
        videos_of_process[process][video] = job.videos[video]
        segments_of_process[process] += segment_counts[video]
    threads = max(1, torch.get_num_threads() // count)
    defaults = {
        "workers": workers_for(usable_cores(), count) if gpus else WORKERS_ON_CPU,
        # Other encoders than a recognizer get small batches, since the memory that they need is not
        # known.
        "batch_size": BATCH_ON_GPU if gpus and not job.own_encoder else BATCH_ON_CPU,
    }
    unset = {key: value for key, value in defaults.items() if getattr(job.settings, key) is None}
    settings = job.settings.model_copy(update=unset)
    job_of_process = replace(job, settings=settings, threads=threads)
    return [
        replace(job_of_process, videos=videos, device=f"cuda:{number % gpus}" if gpus else "cpu")
        for number, videos in enumerate(videos_of_process)
    ]
