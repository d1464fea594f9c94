"""Checkpoints on disk: whole or not there, the newest that loads, none of another run.

A checkpoint is `iter_{batches done}.pth`; no pointer file names the newest, so none can be missing.
All are read with `weights_only=True`, which runs no code that a file may hold.
"""

import logging
import os
import shutil
from pathlib import Path

from epic100.base.atomic import atomic_path
from epic100.base.errors import EpicError
from epic100.base.torch_file import BrokenFile, pack, read_tensors
from epic100.training.stamp import differences

log = logging.getLogger(__name__)

BEST = "best.pth"


def checkpoint_path(work_dir: str | os.PathLike, batches: int) -> Path:
    """The file of the state after this many batches."""
    return Path(work_dir) / f"iter_{batches}.pth"


def checkpoints(work_dir: str | os.PathLike) -> list[Path]:
    """The checkpoints of a work directory, newest first."""
    found = [p for p in Path(work_dir).glob("iter_*.pth") if p.stem[5:].isdigit()]
    return sorted(found, key=lambda path: int(path.stem[5:]), reverse=True)


def read_checkpoint(path: str | os.PathLike) -> dict:
    """The content of a checkpoint, on the CPU.

    Raises BrokenFile where it is text, empty, cut short, altered, or holds more than tensors and
    plain Python; EpicError where it cannot be read at all, which says nothing about the file.
    """
    content = read_tensors(path, "a checkpoint", "code in a file is never run")
    if not isinstance(content, dict):
        raise BrokenFile(f"{path}: not a checkpoint: it holds a {type(content).__name__}, no dict")
    return content


def newest_checkpoint(work_dir: str | os.PathLike, stamp: dict[str, str]) -> Path | None:
    """The newest checkpoint that loads; a broken one is set aside as `.broken`, with a line.

    Raises EpicError where it is of another run, naming what differs from `stamp`.
    """
    for path in checkpoints(work_dir):
        try:
            content = read_checkpoint(path)
        except BrokenFile as error:
            aside = path.with_suffix(".broken")
            os.replace(path, aside)
            log.info(f"{error}; set aside as {aside.name}")
            continue
        refuse_another_run(path, content, stamp)
        return path
    return None


def refuse_another_run(path: str | os.PathLike, content: dict, stamp: dict[str, str]) -> None:
    """Raise EpicError unless the checkpoint's stamp is this one."""
    found = content.get("stamp")
    differing = differences(found, stamp) if isinstance(found, dict) else "it holds no stamp"
    if differing:
        raise EpicError(
            f"{path} is a checkpoint of another run, not resumed: {differing}; move it away, or "
            "give it as `train: load_from:` to start from its weights"
        )


def write_checkpoint(path: Path, content: dict, keep: int) -> None:
    """Save `content`, whole and on the disk before the file has its name; then remove all but the
    newest `keep`.

    Raises EpicError where there is no room; what was saved before is kept.
    """
    data = pack(content)
    require_space(path.parent, len(data))
    with atomic_path(path) as temporary:
        try:
            temporary.write_bytes(data)
        except OSError as error:
            saved = checkpoints(path.parent)
            raise EpicError(
                f"{path}: cannot be saved: {error.strerror or error}; "
                f"{f'{saved[0].name} before it is whole' if saved else 'nothing was saved before'}"
                "; make room, and the same command goes on from there"
            ) from error
    for old in checkpoints(path.parent)[keep:]:
        old.unlink()


def keep_as_best(path: Path) -> None:
    """Give a checkpoint the second name best.pth, under which it stays when it grows old."""
    with atomic_path(path.with_name(BEST)) as temporary:
        temporary.unlink()
        try:
            os.link(path, temporary)
        except OSError:  # a file system without hard links
            shutil.copyfile(path, temporary)


def require_space(folder: str | os.PathLike, size: float) -> None:
    """Raise EpicError where the folder's disk has fewer than `size` bytes free. Quotas are not
    seen here; they show when a file is written."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise EpicError(
            f"{folder}: {free / 2**20:.0f} MiB free, {size / 2**20:.0f} MiB needed for "
            "checkpoints; make room, or take another disk with `snakemake --directory`"
        )


def remove_half_written(work_dir: str | os.PathLike) -> None:
    """Remove what saves that were killed left behind."""
    for path in Path(work_dir).glob(".*.tmp.*"):
        path.unlink(missing_ok=True)
