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
from epic100.segments.segment_list import lines_by, read_clean_list
from epic100.settings import PredictSettings
from epic100.video.sheet import find_files

log = logging.getLogger(__name__)
WORKERS_ON_CPU = 2
BATCH, BATCH_ON_GPU = 8, 32
# Another attempt may remove the shards of this one, as a timeline does at its end.
TRIES = 3


def run_jobs(jobs: Sequence[Job], bar: Progress) -> None:
    """Run every job; several jobs run in a process each.

    If one process fails, the others are ended; finished videos are kept.

    Args:
        jobs: The jobs.
        bar: Gets the number of segments just finished.

    Raises:
        EpicError: A job or its process failed.
    """
    if len(jobs) == 1:
        # MMAction2 takes seconds to import, and several processes import it themselves.
        from epic100.prediction.worker import predict_videos

        predict_videos(jobs[0], bar.update)
        return
    with private_folder() as folder:
        done = Path(folder, "done")
        done.touch()
        run_ranks(
            [(predict_part, job, done) for job in jobs],
            [{}] * len(jobs),
            look=lambda: bar.update(done.stat().st_size - bar.done),
        )


def predict_part(job: Job, done: Path) -> None:
    """Do the job of one process of several; `done` gets a byte for each segment."""
    from epic100.prediction.worker import predict_videos

    with done.open("ab", buffering=0) as file:
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
    asked: int = 0,
) -> None:
    """Predict every segment of a clean list and write the predictions file.

    Finished videos are kept in `{split}.shards` beside it. So an interrupted prediction resumes
    where it was, and one of the last three predictions is not computed again. Rows do not
    depend on the number of processes or workers, or on interruptions. On a CPU, the number of torch
    threads, which the processes share, changes their last digits (by 1e-6). If all segments of a
    split were dropped, the file has no rows.

    Args:
        model_path: The model file.
        segments: The clean list.
        out: The file to write, `results/predictions/{split}.pt`.
        split: Name of the split.
        video_root: The folder of the videos.
        index_dir: The folder of the frame indexes.
        settings: The `predict:` section.
        modules: The config's `modules` section.
        asked: Number of GPUs that the rule requests.

    Raises:
        EpicError: Torch cannot use a GPU that was granted or requested, or a process fails.
    """
    trained, model_digest = load_model(model_path), digest(model_path)
    table, pipeline = read_clean_list(segments), test_pipeline_of(trained.config, model_path)
    clips, crops = chosen_views(pipeline, settings.clips, settings.crops)
    log.info(cost_of_views(clips, crops, len(table)))
    job = Job(
        str(model_path),
        str(segments),
        str(out),
        run_key(model_digest, clips, crops),
        video_root,
        index_dir,
        settings.model_copy(update={"clips": clips}),
        videos_of(table, video_root),
        modules,
    )
    log_probs = predict_rows(job, asked, sum(trained.outputs.values()), split)
    ids = table["narration_id"].tolist()
    write_predictions(predictions_of(split, ids, log_probs, trained, model_digest), out)


def predict_rows(
    job: Job, asked: int, outputs: int, label: str, parts: str = "videos"
) -> torch.Tensor:
    """Predict the segments of a job in one or several processes, and collect their shards.

    Shards that are there already are used. They are kept; the caller removes them once it has
    stored the result.

    Args:
        job: The whole work. Its keys of `videos` name the parts that get a shard each; together
            they have every line of the list once.
        asked: Number of GPUs that the rule requests.
        outputs: Outputs of the model, for a list without segments.
        label: What is predicted, for the progress display.
        parts: What a part is, for the log.

    Returns:
        float32 [lines of the list, outputs], log-probabilities or features.

    Raises:
        EpicError: A process fails, or shards disappear.
    """
    rows_of_part = complete_shards(job, asked, label, parts)
    if not rows_of_part:
        return torch.empty(0, outputs)
    lines = [line for _, part_lines in job.videos.values() for line in part_lines]
    rows = torch.cat([rows_of_part[part] for part in job.videos])
    return torch.empty_like(rows).index_copy_(0, torch.tensor(lines), rows)


def complete_shards(
    job: Job, asked: int, label: str, parts: str = "videos"
) -> dict[str, torch.Tensor]:
    """Predict what has no shard yet of a job, in one or several processes.

    Args:
        job: As for `predict_rows`.
        asked: As for `predict_rows`.
        label: As for `predict_rows`.
        parts: As for `predict_rows`.

    Returns:
        The rows of each part, as it was found: another attempt may remove its shard. Tokens, which
        may be larger than the memory, stay on the disk.

    Raises:
        EpicError: Torch cannot use a GPU that was granted or requested; a process fails; or shards
            disappear.
    """
    gpus = gpus_to_use("predict", job.settings.device, job.settings.gpus, look_for_gpus(asked))
    shards, rows_of_part = Shards(job.out, job.run), dict[str, torch.Tensor]()
    shards.keep_newest()
    for attempt in range(TRIES + 1):
        for part, (stamp, _) in job.videos.items():
            if (
                part not in rows_of_part
                and (rows := shards.read(part, stamp, bool(job.grid))) is not None
            ):
                rows_of_part[part] = rows
        todo = {
            part: stamp_and_lines
            for part, stamp_and_lines in job.videos.items()
            if part not in rows_of_part
        }
        if not attempt and rows_of_part:
            log.info(
                f"going on: {len(rows_of_part)} of {len(job.videos)} {parts} are predicted already"
            )
        if not todo:
            return rows_of_part
        if attempt < TRIES:
            segments_left = sum(len(lines) for _, lines in todo.values())
            bar = Progress(f"predict {label}", segments_left, "segments")
            run_jobs(_shared(replace(job, videos=todo), gpus), bar)
            bar.close()
    raise EpicError(f"{shards.path(min(todo))}: gone or changed since it was made; run again")


def predictions_of(
    split: str, ids: list[str], rows: torch.Tensor, trained: TrainedModel, digest_of_model: str
) -> Predictions:
    """Build predictions from rows of all outputs.

    Args:
        split: Name of the split.
        ids: Ids of the N segments.
        rows: float32 [N, all outputs], log-probabilities.
        trained: The model.
        digest_of_model: Its digest (`model_file.digest`).

    Returns:
        The predictions. For a model without outputs for pairs, a pair has the product of the
        probabilities of its verb and its noun, normalised over the pairs.
    """
    log_probs = split_outputs(rows, trained.outputs)
    pairs = log_probs.get("pair")
    if pairs is None:
        members = torch.tensor([pair[:2] for pair in trained.pairs])
        product = log_probs["verb"][:, members[:, 0]] + log_probs["noun"][:, members[:, 1]]
        pairs = product.log_softmax(dim=1)
    return Predictions(
        split,
        ids,
        pairs,
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
    """The parts of a job that predicts a list, a video each.

    Args:
        table: The segment list.
        video_root: The folder of the videos.

    Returns:
        By path: the stamp of the video's shard, and its line numbers in the list.
    """
    by_path = lines_by(table, "path")
    files, videos = find_files(by_path, video_root), {}
    for path, lines in by_path.items():
        starts, stops = (table[name].iloc[lines].tolist() for name in ("start", "stop"))
        stamp = video_stamp(files[path], starts, stops)
        videos[path] = (stamp, lines.tolist())
    return videos


def _shared(job: Job, gpus: int) -> list[Job]:
    """Split the job into one per process, with similar numbers of segments and a device each."""
    processes = gpus or (job.settings.device == "cpu" and job.settings.gpus) or 1
    count = min(processes, len(job.videos))
    shares: list[dict] = [{} for _ in range(count)]
    sizes = [0] * count
    for video in sorted(job.videos, key=lambda v: len(job.videos[v][1]), reverse=True):
        smallest = sizes.index(min(sizes))
        shares[smallest][video] = job.videos[video]
        sizes[smallest] += len(job.videos[video][1])
    threads = max(1, torch.get_num_threads() // count)
    defaults = {
        "workers": workers_for(usable_cores(), count) if gpus else WORKERS_ON_CPU,
        # It is not known how much memory an encoder takes that is no recognizer.
        "batch_size": BATCH_ON_GPU if gpus and not job.own_encoder else BATCH,
    }
    unset = {key: value for key, value in defaults.items() if getattr(job.settings, key) is None}
    settings = job.settings.model_copy(update=unset)
    shared = replace(job, settings=settings, threads=threads)
    return [
        replace(shared, videos=videos, device=f"cuda:{number % gpus}" if gpus else "cpu")
        for number, videos in enumerate(shares)
    ]
