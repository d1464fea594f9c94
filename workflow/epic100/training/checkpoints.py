"""Checkpoints on disk: written completely or not at all, and resumed only by their own run.

A checkpoint is `iter_{batches done}.pth`. No pointer file names the newest one, so none can be
missing. All are read with `weights_only=True`, which runs no code from a file.
"""

import contextlib
import logging
import os
import shutil
from pathlib import Path

from epic100.base.atomic import atomic_path
from epic100.base.errors import EpicError
from epic100.base.links import link_or_copy
from epic100.base.torch_file import BrokenFile, pack, read_tensors
from epic100.training.stamp import differences

log = logging.getLogger(__name__)

BEST = "best.pth"
ATTEMPT = "attempt_"


def checkpoint_path(work_dir: str | os.PathLike, batches: int) -> Path:
    """The path of the checkpoint after this many batches."""
    return Path(work_dir) / f"iter_{batches}.pth"


def checkpoints(work_dir: str | os.PathLike) -> list[Path]:
    """The checkpoints of a work directory, newest first."""
    found = [p for p in Path(work_dir).glob("iter_*.pth") if p.stem[5:].isdigit()]
    return sorted(found, key=lambda path: int(path.stem[5:]), reverse=True)


def last_saved(work_dir: str | os.PathLike) -> str:
    """The newest checkpoint of a work directory, in words for an error."""
    found = checkpoints(work_dir)
    return f"the last good checkpoint is {found[0]}" if found else "nothing was saved before"


def read_checkpoint(path: str | os.PathLike) -> dict:
    """Read a checkpoint to the CPU.

    Raises:
        BrokenFile: The file is text, empty, cut short or altered, or contains more than tensors and
            plain Python.
        EpicError: The file cannot be read at all, so it may still be intact.
    """
    content = read_tensors(path, "a checkpoint", "code in a file is never run")
    if not isinstance(content, dict):
        raise BrokenFile(f"{path}: not a checkpoint: it holds a {type(content).__name__}, no dict")
    return content


def set_aside(path: Path, error: BrokenFile) -> None:
    """Rename a broken file to `.broken`, so that it is kept but not used, and log it."""
    aside = path.with_suffix(".broken")
    os.replace(path, aside)
    log.warning(f"{error}; set aside as {aside.name}")


def newest_checkpoint(work_dir: str | os.PathLike, stamp: dict[str, str]) -> Path | None:
    """Find the newest checkpoint that loads; rename broken ones to `.broken` and log each.

    Args:
        work_dir: The run's work directory.
        stamp: The stamp of the run.

    Returns:
        Its path, or None if no checkpoint loads.

    Raises:
        EpicError: The checkpoint is of another run; the error names what differs from `stamp`.
    """
    for path in checkpoints(work_dir):
        try:
            content = read_checkpoint(path)
        except BrokenFile as error:
            set_aside(path, error)
            continue
        refuse_another_run(path, content, stamp)
        return path
    return None


def refuse_another_run(path: str | os.PathLike, content: dict, stamp: dict[str, str]) -> None:
    """Raise EpicError unless the checkpoint's stamp equals `stamp`."""
    found = content.get("stamp")
    differing = differences(found, stamp) if isinstance(found, dict) else "it holds no stamp"
    if differing:
        raise EpicError(
            f"{path} is a checkpoint of another run, not resumed: {differing}; move it away, or "
            "give it as `train: load_from:` to start from its weights"
        )


def write_checkpoint(path: Path, content: dict, keep: int) -> None:
    """Save `content`, then remove all but the newest `keep` checkpoints.

    The file gets its name only after it is completely on disk.

    Raises:
        EpicError: It cannot be written; earlier checkpoints are kept.
    """
    data = pack(content)
    with atomic_path(path) as temporary:
        try:
            temporary.write_bytes(data)
        except OSError as error:
            raise EpicError(
                f"{path}: cannot be saved: {error.strerror or error}; {last_saved(path.parent)}; "
                "make room, and the same command goes on from there"
            ) from error
    for old in checkpoints(path.parent)[keep:]:
        old.unlink(missing_ok=True)


def keep_as_best(path: Path) -> None:
    """Link a checkpoint as best.pth too, so that it remains when old checkpoints are removed."""
    with atomic_path(path.with_name(BEST)) as temporary:
        temporary.unlink()
        link_or_copy(path, temporary)


def attempts(run_dir: Path) -> list[Path]:
    """The folders of a run's attempts, newest first."""
    found = [path for path in run_dir.glob(f"{ATTEMPT}*") if path.name[len(ATTEMPT) :].isdigit()]
    return sorted(found, key=_number, reverse=True)


def _number(attempt: Path) -> int:
    return int(attempt.name[len(ATTEMPT) :])


def begin_attempt(run_dir: Path) -> Path:
    """Make the folder of a new attempt, with the checkpoints that earlier ones saved.

    Two attempts of a run may be at work at once: a scheduler can lose sight of a job that lives on.
    Each writes into its own folder alone, so neither harms the other.

    Args:
        run_dir: The run's directory.
    """
    before = attempts(run_dir)
    number = _number(before[0]) if before else 0
    while True:
        number += 1
        folder = run_dir / f"{ATTEMPT}{number}"
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            break
    for path in [path for each in before for path in (*checkpoints(each), each / BEST)]:
        if not (folder / path.name).exists():
            with contextlib.suppress(FileNotFoundError):  # no best yet, or removed just now
                link_or_copy(path, folder / path.name)
    return folder


def remove_older(folder: Path) -> None:
    """Remove the folders of attempts before this one, whose training is finished."""
    for other in attempts(folder.parent):
        if _number(other) < _number(folder):
            shutil.rmtree(other, ignore_errors=True)
