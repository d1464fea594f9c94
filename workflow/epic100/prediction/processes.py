"""The work of a prediction, done in this process or in several.

Each of several processes is started as `python -P -m`. `multiprocessing` cannot do it: it imports
the main module again in each, which may be a rule's script that Snakemake fetched from a host. The
job goes to stdin as a pickle. Back through a pipe come the number of segments just finished, log
records, and the error that ended the process.
"""

import contextlib
import logging
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any

from epic100.base.errors import EpicError
from epic100.prediction.encoder import MODEL
from epic100.settings import PredictSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """The work of one process.

    Args:
        model: The model file, or the folder of the encoder `hf`.
        segments: The clean list.
        out: The predictions file, whose name the folder of shards is derived from.
        run: Name of the shards' run (`shards.run_key`).
        video_root: The folder of the videos.
        index_dir: The folder of the frame indexes.
        settings: The `predict:` section, with the number of clips and of loader processes.
        videos: By path as in `segments`: the stamp of the video's shard and its line numbers.
        modules: The config's `modules` section.
        encoder: Empty for scores. Else rows are features: "model" for those of the model file,
            "hf" for those of a Hugging Face model, or `module:Class` (`encoder.Encoder`).
        grid: Of features: most tokens of a clip in time and in each direction; None: one vector.
        device: The torch device.
        threads: Threads that torch uses.
    """

    model: str
    segments: str
    out: str
    run: str
    video_root: str
    index_dir: str
    settings: PredictSettings
    videos: dict[str, tuple[str, list[int]]]
    modules: Mapping[str, Any] | None = None
    encoder: str = ""
    grid: Sequence[int] | None = None
    device: str = "cpu"
    threads: int = 1

    @property
    def own_encoder(self) -> str:
        """The encoder that is no recognizer of a model file, or ""."""
        return "" if self.encoder == MODEL else self.encoder


def run_jobs(jobs: Sequence[Job], report: Callable[[int], None]) -> None:
    """Run every job; several jobs run in a process each.

    If one process fails, the others are ended; finished videos are kept. A process ends with this
    one, at its next report.

    Args:
        jobs: The jobs.
        report: Gets the number of segments just finished.

    Raises:
        EpicError: A process failed. The reason is that of the first one to fail.
    """
    if len(jobs) == 1:
        from epic100.prediction.worker import predict_videos  # MMAction2 takes seconds to import

        predict_videos(jobs[0], report)
        return
    running: dict[Connection, subprocess.Popen] = {}
    try:
        for job in jobs:
            _start(job, running)
        while running:
            for answers in wait(running):
                _take(answers, running, report)
    finally:
        for process in running.values():
            process.terminate()


def _start(job: Job, running: dict[Connection, subprocess.Popen]) -> None:
    answers, theirs = Pipe(duplex=False)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "epic100.prediction.processes", str(theirs.fileno())],
            stdin=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
            process_group=0,  # Ctrl-C in a terminal is for this process, which reports it once
        )
    running[answers] = process
    assert process.stdin is not None, "a pipe, as asked for"
    with contextlib.suppress(BrokenPipeError), process.stdin as order:  # its end is heard
        pickle.dump(job, order)


def _take(
    answers: Any, running: dict[Connection, subprocess.Popen], report: Callable[[int], None]
) -> None:
    try:
        said = answers.recv()
    except (EOFError, OSError):  # it has ended, or was killed within an answer
        if code := running.pop(answers).wait():
            how = f"by signal {-code} (9: out of memory, most often)" if code < 0 else "by itself"
            raise EpicError(
                f"a process of the prediction ended {how}; what it said is above"
            ) from None
        return
    if isinstance(said, EpicError):
        raise said
    if isinstance(said, logging.LogRecord):
        logging.getLogger(said.name).handle(said)
    else:
        report(said)


class _Sent(QueueHandler):
    """Sends log records to the process that waits. One of a loader's process is short enough."""

    def enqueue(self, record: logging.LogRecord) -> None:
        self.queue.send(record)  # type: ignore[attr-defined]


def main() -> None:
    """Run the job on stdin, as one of several processes; the argument is the pipe's number."""
    answers: Any = Connection(int(sys.argv[1]), readable=False)
    logging.getLogger("epic100").setLevel(logging.INFO)
    logging.getLogger().addHandler(_Sent(answers))
    job = pickle.load(sys.stdin.buffer)
    try:
        from epic100.prediction.worker import predict_videos

        predict_videos(job, answers.send)
    except EpicError as error:
        answers.send(error)
    except BrokenPipeError:
        sys.exit(1)  # nobody waits any more
    except Exception:
        log.exception("a process of the prediction failed")
        sys.exit(1)


if __name__ == "__main__":
    main()
