"""Scan the videos of a participant: each in a process of its own that can be killed.

Nothing a file does can hang or fail the scan: a decoder that spins, eats memory or crashes ends
as a row `unreadable` with its reason. Finished videos are kept in a cache keyed by path, size and
time of change, so a scan that was cut short decodes only what is new.
"""

import hashlib
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from epic100.atomic import atomic_path
from epic100.scan_table import MISSING, UNREADABLE, ScanRow, write_scan_table
from epic100.sheet import Video
from epic100.video_index import VideoIndex

WORKER = (sys.executable, "-m", "epic100.scan_worker")
CACHE_VERSION = 1  # raise it when the worker finds more, so that old results are not used


@dataclass(frozen=True)
class ScanLimits:
    """What one video may take before it is given up.

    `stall_seconds`: without a decoded frame. A video's total limit is `min_seconds` plus its
    length times `seconds_per_second`. `memory_mib`: address space of the decoder (0: no limit).
    """

    stall_seconds: float = 60.0
    min_seconds: float = 300.0
    seconds_per_second: float = 2.0
    memory_mib: int = 8192

    def total(self, video: Video) -> float:
        """Seconds that this video may take in all."""
        return self.min_seconds + self.seconds_per_second * video.duration


def scan_participant(
    videos: Sequence[Video],
    root: str | os.PathLike,
    table: str | os.PathLike,
    index: str | os.PathLike,
    *,
    limits: ScanLimits = ScanLimits(),
    threads: int = 1,
    cache: str | os.PathLike | None = None,
    worker: Sequence[str] = WORKER,
    progress: Callable[[str, int], None] = lambda video_id, frames: None,
) -> list[ScanRow]:
    """Scan `videos` below `root` and write their table and their frame indexes.

    `table`: results/scan/{participant}.tsv. `index`: an .npz that holds a VideoIndex per readable
    video (`load_indexes`). `cache`: a folder of finished videos, kept between calls. `progress` is
    told (video_id, frames decoded so far).
    """
    folder = Path(cache) if cache else Path(table).parent / "cache" / Path(table).stem
    folder.mkdir(parents=True, exist_ok=True)

    def one(video: Video) -> tuple[ScanRow, dict[str, np.ndarray]]:
        result = _scan_video(video, Path(root), folder, limits, worker, progress)
        progress(video.video_id, -1)
        return result

    with ThreadPoolExecutor(max_workers=max(1, threads)) as pool:
        results = list(pool.map(one, videos))
    arrays = {
        f"{row.video_id}/{name}": value for row, found in results for name, value in found.items()
    }
    with atomic_path(index) as temporary:
        np.savez_compressed(temporary, **arrays)
    rows = [row for row, _ in results]
    write_scan_table(rows, table)
    return rows


def load_index(path: str | os.PathLike, video_id: str) -> VideoIndex | None:
    """The index of one video from a participant's .npz, or None where it has none."""
    with np.load(path) as arrays:
        if f"{video_id}/steps" not in arrays:
            return None
        return VideoIndex.from_arrays(arrays, f"{video_id}/")


def _scan_video(video, root, cache, limits, worker, progress):
    path = video.path(root)
    try:
        state = path.stat()
    except OSError as error:
        if not path.is_symlink() and not path.exists():
            return ScanRow(video.video_id, MISSING, reason=f"no file {path}"), {}
        return ScanRow(video.video_id, UNREADABLE, reason=f"cannot open: {error.strerror}"), {}
    key = (
        f"{CACHE_VERSION} {path.resolve()} {state.st_size} {state.st_mtime_ns} {limits.memory_mib}"
    )
    kept = cache / f"{video.video_id}.{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    if not kept.is_file():
        failure = _run_worker(video, path, kept, limits, worker, progress)
        if failure:
            return ScanRow(video.video_id, UNREADABLE, reason=failure), {}
    with np.load(kept) as arrays:
        row = ScanRow.from_json(str(arrays["row"]))
        return row, {name: arrays[name] for name in arrays.files if name != "row"}


def _run_worker(video, path, out, limits, worker, progress) -> str:
    """Run the decoder on one file; the reason why there is no result, or ""."""
    command = [*worker, str(path), str(out), "--memory-mib", str(limits.memory_mib)]
    started = heard = time.monotonic()
    errors: list[bytes] = []
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        drain = threading.Thread(target=lambda: errors.append(process.stderr.read()[-4000:]))
        drain.start()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                if selector.select(timeout=0.5):
                    line = os.read(process.stdout.fileno(), 4096)
                    if not line:
                        break
                    heard = time.monotonic()
                    progress(video.video_id, int(line.split()[-1]))
                now = time.monotonic()
                verdict = ""
                if now - heard > limits.stall_seconds:
                    verdict = f"no progress in {limits.stall_seconds:g} s"
                elif now - started > limits.total(video):
                    verdict = f"not decoded within {limits.total(video):g} s"
                if verdict:
                    process.kill()
                    process.wait()
                    drain.join()
                    return verdict
        code = process.wait()
        drain.join()
    if code == 0 and out.is_file():
        return ""
    if code < 0:
        return f"the decoder crashed ({signal.Signals(-code).name})"
    text = errors[0].decode(errors="replace").strip().splitlines() or [f"exit code {code}"]
    if "MemoryError" in text[-1] or "Cannot allocate memory" in text[-1]:
        return f"the decoder asked for more than {limits.memory_mib} MiB of memory"
    return f"the decoder failed: {text[-1]}"
