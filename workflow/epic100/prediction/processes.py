"""Run the jobs of a prediction in processes of their own, and follow their output."""

import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock

from epic100.base.errors import EpicError, from_last_line
from epic100.prediction.job import REPORT, Job

log = logging.getLogger(__name__)


def run_jobs(jobs: Sequence[Job], report: Callable[[int], None]) -> None:
    """Run every job; several jobs run in a process each.

    If one process fails, the others are ended; finished videos are kept.

    Args:
        jobs: The jobs.
        report: Gets the number of segments just finished; called by one thread at a time.

    Raises:
        EpicError: A process failed. The reason is that of the first one to fail.
    """
    if len(jobs) == 1:
        from epic100.prediction.worker import predict_videos  # MMAction2 takes seconds to import

        predict_videos(jobs[0], report)
        return
    lock = Lock()
    failures: list[EpicError] = []
    processes: list[subprocess.Popen] = []

    def follow(process: subprocess.Popen) -> None:
        said = ""
        for line in process.stdout or ():
            with lock:
                if line.startswith(REPORT):
                    report(int(line.removeprefix(REPORT)))
                else:
                    log.info(line.rstrip("\n"))
                    said = line.strip() or said
        if process.wait():
            with lock:
                failures.append(from_last_line(said) or _ended(process.returncode, said))
            _end(processes)

    try:
        with _deaf_children():
            processes += [_start(job) for job in jobs]
        with ThreadPoolExecutor(len(jobs)) as pool:
            try:
                list(pool.map(follow, processes))
            except KeyboardInterrupt:
                _end(processes)  # else the pool would wait for them
                raise
    finally:
        _end(processes)
    if failures:
        raise failures[0]


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Let processes that start within the block ignore Ctrl-C, which a terminal sends to all.

    This process ends them then, and reports it once.
    """
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGINT, before)


def _start(job: Job) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "epic100.prediction"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdin is not None, "a pipe, as asked for"
    process.stdin.write(job.to_json())
    process.stdin.close()
    return process


def _end(processes: Sequence[subprocess.Popen]) -> None:
    for process in processes:
        if process.poll() is None:
            process.terminate()


def _ended(code: int, said: str) -> EpicError:
    how = f"by signal {-code} (9: out of memory, most often)" if code < 0 else f"with code {code}"
    return EpicError(f"a process of the prediction ended {how}; its last words: {said or 'none'}")
