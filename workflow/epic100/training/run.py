"""The folder of a run: its stamp, its attempts, their checkpoints, and the finished model.

The name of the folder is a digest of all that the weights depend on (`run_stamp`). In it, each
attempt to train the run has a folder of its own. A checkpoint is `iter_{batches done}.pth`: written
completely or not at all, and resumed only by its own run. The newest one is found by its number,
not by a file that names it and could be missing. All are read with `weights_only=True`, which runs
no code from a file.

The finished model is kept here. Snakemake removes the outputs of a job before it starts, so
`results/model.pth` cannot be the only copy: another setting that is tried for an hour would cost
the model of a day.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from epic100.base.atomic import atomic_path, copy_file, write_text
from epic100.base.disk import read_text
from epic100.base.errors import EpicError
from epic100.base.folders import link_or_copy
from epic100.base.ranks import on_rank_0
from epic100.base.torch_file import BrokenFile, pack, read_tensors
from epic100.model.model_file import TrainedModel, digest, load_model, save_model
from epic100.scoring.epoch_table import FILE as EPOCHS
from epic100.training.recipe import Recipe, items_of, tree_of

log = logging.getLogger(__name__)

MODEL = "model.pth"
BEST = "best.pth"
ATTEMPT = "attempt_"
CHECKPOINT = "iter_"
STAMP = "stamp.json"
# A message about two stamps shows this many differences, and only values of at most this length.
SHOWN_DIFFERENCES = 3
SHOWN_LENGTH = 40
# The name of a run's folder has this many hexadecimal digits.
NAME_DIGITS = 12

# The stamp of a run has all that its weights depend on. A resume compares the stamp of a checkpoint
# with that of the run. The stamp has the settings below these keys of the config.
STAMPED_KEYS = (
    "model",
    "train_dataloader",
    "train_cfg",
    "optim_wrapper",
    "param_scheduler",
    "custom_hooks",
    "randomness",
    "auto_scale_lr",
    "sync_bn",
)
# The stamp leaves these out below `STAMPED_KEYS`, at any depth. They say where files are (the stamp
# has digests of the lists), how they are loaded, and when a validation is due. The stamp has the
# batch over all processes instead of `batch_size`.
UNSTAMPED_NAMES = {
    "ann_file",
    "pairs",
    "data_root",
    "index_dir",
    "keep_open",
    "max_broken",
    "batch_size",
    "num_workers",
    "persistent_workers",
    "pin_memory",
    "prefetch_factor",
    "timeout",
    "val_interval",
    "val_begin",
    "dynamic_intervals",
}


@dataclass(frozen=True)
class Run:
    """The folders of a run and of its present attempt, the same for all processes.

    Attributes:
        folder: The folder of the run.
        attempt: The folder of the present attempt in it; None if the run is finished.
    """

    folder: Path
    attempt: Path | None

    def finish(self, model: TrainedModel) -> None:
        """Save the model and its table of epochs in the run's folder, unless they are there.

        Another attempt may have ended first.
        """
        if not has_model(self.folder) and self.attempt:
            copy_file(self.attempt / EPOCHS, self.folder / EPOCHS)
            save_model(model, self.folder / MODEL)

    def take_model(
        self, model_path: str | os.PathLike, history_path: str | os.PathLike | None
    ) -> None:
        """Copy the finished model and its table of epochs to the outputs of the rule.

        Then remove earlier attempts.
        """
        copy_file(self.folder / MODEL, model_path)
        if history_path is not None:
            copy_file(self.folder / EPOCHS, history_path)
        if self.attempt:
            remove_older(self.attempt)


def open_run(folder: str | os.PathLike, config: Recipe) -> Run:
    """Make the folder of a run if there is none, and begin an attempt if the run is not finished.

    Only rank 0 does so, and all ranks get its result: if each looked for itself, one could rename a
    broken model while another reads it.

    Args:
        folder: `results/work_dirs`.
        config: The result of `build_config`.
    """

    def open_here() -> Run:
        """Open the run in this process; a finished one gets no attempt."""
        run_dir = open_run_dir(folder, run_stamp(config))
        return Run(run_dir, None if has_model(run_dir) else begin_attempt(run_dir))

    return on_rank_0(open_here)


def has_model(run_dir: str | os.PathLike, *, mend: bool = True) -> bool:
    """Whether the run of this folder is finished, with an intact model and its table of epochs.

    Args:
        run_dir: The folder of the run.
        mend: Whether to rename a broken model to `model.broken`. Then the run resumes from its last
            checkpoint.
    """
    path = Path(run_dir) / MODEL
    if not path.is_file():
        return False
    try:
        load_model(path)
    except BrokenFile as error:
        if mend:
            set_aside(path, error)
        return False
    return (path.parent / EPOCHS).is_file()


def run_stamp(config: Recipe, processes: int = 1) -> dict[str, str]:
    """Collect everything that the result of a training depends on, by name.

    These are digests of the clean list, the pair table and the start weights, the batch over all
    processes, and each setting by its dotted key. Paths of files, loading, validation and logs
    (`default_hooks`) are left out, so a run may resume with other values of these.

    Args:
        config: The result of `build_config`, or any complete config.
        processes: Number of training processes, each with the config's `batch_size`.
    """
    dataset = config.train_dataloader.dataset
    weights = config.get("load_from")
    return {
        "clean list": digest(dataset.ann_file),
        "pair table": digest(dataset.pairs),
        "start weights": digest(weights) if weights and Path(weights).is_file() else str(weights),
        "global batch": str(config.train_dataloader.batch_size * processes),
        **settings_in(config),
    }


def settings_in(config: Recipe) -> dict[str, str]:
    """Collect the settings of a config that change what is learned, by dotted key.

    They are the part of a run's stamp that is not about files or the batch.
    """
    settings = config.to_dict()
    # In a tree, the settings in lists have dotted keys too, such as `param_scheduler.0.type`.
    tree = tree_of({key: settings.get(key) for key in STAMPED_KEYS})
    return {
        key: str(value)
        for key, value in items_of(tree, without=UNSTAMPED_NAMES)
        if value is not None
    }


def stamp_name(stamp: dict[str, str]) -> str:
    """Compute the name of the run with this stamp: the beginning of a digest."""
    text = "\n".join(f"{key}={stamp[key]}" for key in sorted(stamp))
    return hashlib.sha256(text.encode()).hexdigest()[:NAME_DIGITS]


def open_run_dir(folder: str | os.PathLike, stamp: dict[str, str]) -> Path:
    """Create the directory of a run in `folder`, named after its stamp, and write stamp.json."""
    run_dir = Path(folder) / stamp_name(stamp)
    write_text(run_dir / STAMP, json.dumps(stamp, indent=1) + "\n")
    return run_dir


def read_stamp(run_dir: str | os.PathLike) -> dict[str, str]:
    """Read the stamp of a run's directory: the settings and digests that tell the run from others.

    Raises:
        EpicError: The file is missing or holds no stamp.
    """
    path = Path(run_dir, STAMP)
    try:
        return TypeAdapter(dict[str, str]).validate_json(read_text(path), strict=True)
    except ValueError as error:
        raise EpicError(
            f"{path}: no stamp of a training: expected texts by name; see who wrote it, then move "
            f"{run_dir} away, and the training begins anew"
        ) from error


def differences(theirs: dict[str, str], ours: dict[str, str]) -> str:
    """Describe how two stamps differ: `seed (0 there, 1 here), clean list`; "" if they are equal.

    Args:
        theirs: The stamp of a checkpoint or of another run ("there").
        ours: The stamp of this run ("here").
    """
    differing = []
    # Keys come in the order of our stamp, each once.
    for key in ours | theirs:
        their_value = theirs.get(key, "absent")
        our_value = ours.get(key, "absent")
        if their_value != our_value:
            is_long = max(len(their_value), len(our_value)) > SHOWN_LENGTH
            differing.append(key if is_long else f"{key} ({their_value} there, {our_value} here)")
    hidden = len(differing) - SHOWN_DIFFERENCES
    return ", ".join(differing[:SHOWN_DIFFERENCES]) + (f" and {hidden} more" if hidden > 0 else "")


def checkpoint_path(work_dir: str | os.PathLike, batches: int) -> Path:
    """Name the checkpoint after this many batches: `iter_120.pth` in the work directory."""
    return Path(work_dir) / f"{CHECKPOINT}{batches}.pth"


def checkpoints(work_dir: str | os.PathLike) -> list[Path]:
    """List the checkpoints of a work directory, newest first."""
    number_texts = {
        path: path.stem.removeprefix(CHECKPOINT)
        for path in Path(work_dir).glob(f"{CHECKPOINT}*.pth")
    }
    # Other files may have similar names, such as `iter_copy.pth`.
    paths = [path for path, number_text in number_texts.items() if number_text.isdigit()]
    return sorted(paths, key=lambda path: int(number_texts[path]), reverse=True)


def last_saved(work_dir: str | os.PathLike) -> str:
    """Name the newest checkpoint of a work directory, for an error message."""
    paths = checkpoints(work_dir)
    return f"the last good checkpoint is {paths[0]}" if paths else "nothing was saved before"


def read_checkpoint(path: str | os.PathLike) -> dict:
    """Read a checkpoint into the memory of the CPU.

    Raises:
        BrokenFile: The file is text, empty, cut short or altered, or contains more than tensors and
            plain Python.
        EpicError: The file cannot be read at all, so it may still be intact.
    """
    content = read_tensors(path, what="a checkpoint", remedy="code in a file is never run")
    if not isinstance(content, dict):
        raise BrokenFile(f"{path}: not a checkpoint: it holds a {type(content).__name__}, no dict")
    return content


def set_aside(path: Path, error: BrokenFile) -> None:
    """Rename a broken file to `.broken`, so that nothing reads it again, and log its error."""
    broken_path = path.with_suffix(".broken")
    os.replace(path, broken_path)
    log.warning(f"{error}; set aside as {broken_path.name}")


def newest_checkpoint(work_dir: str | os.PathLike, stamp: dict[str, str]) -> Path | None:
    """Find the newest undamaged checkpoint; rename damaged ones to `.broken`, and log each.

    Args:
        work_dir: The folder of an attempt.
        stamp: The stamp of the run.

    Returns:
        The path of the checkpoint, or None if there is none.

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


def pick_up(work_dir: Path, stamp: dict[str, str]) -> str | None:
    """Find the checkpoint that a training with this stamp resumes, and log it.

    If there is none, a user may still expect a resume. So it logs how the run that was saved last
    differs, of the other runs in this folder.

    Args:
        work_dir: The folder of the attempt.
        stamp: The stamp of the run.

    Returns:
        The path of the checkpoint, or None.
    """
    path = newest_checkpoint(work_dir, stamp)
    if path is not None:
        log.info(f"resuming from {path}")
        return str(path)
    # The folders are `work_dirs/RUN/ATTEMPT`.
    other_checkpoints = [
        path
        for stamp_file in work_dir.parent.parent.glob(f"*/{STAMP}")
        for attempt in attempts(stamp_file.parent)
        for path in checkpoints(attempt)
    ]
    if other_checkpoints:
        last_run = max(other_checkpoints, key=lambda path: path.stat().st_mtime).parent.parent
        try:
            differing = differences(read_stamp(last_run), stamp)
        except EpicError as error:  # A broken stamp of another run concerns that run alone.
            differing = str(error)
        log.info(
            f"starting from the first batch: {last_run} is another run, which differs in "
            f"{differing}"
        )
    return None


def refuse_another_run(path: str | os.PathLike, content: dict, stamp: dict[str, str]) -> None:
    """Raise EpicError unless the contents of a checkpoint have this stamp."""
    saved_stamp = content.get("stamp")
    differing = (
        differences(saved_stamp, stamp) if isinstance(saved_stamp, dict) else "it holds no stamp"
    )
    if differing:
        raise EpicError(
            f"{path} is a checkpoint of another run, not resumed: {differing}; move it away, or "
            "give it as `train: load_from:` to start from its weights"
        )


def write_checkpoint(path: Path, content: dict, keep: int) -> None:
    """Write a checkpoint, then remove all but the newest `keep` checkpoints of its folder.

    The file gets its name only after it is completely on disk.

    Raises:
        EpicError: The file cannot be written; earlier checkpoints are kept.
    """
    with atomic_path(path) as temporary:
        try:
            temporary.write_bytes(pack(content))
        except OSError as error:
            raise EpicError(
                f"{path}: cannot be saved: {error.strerror or error}; {last_saved(path.parent)}; "
                "make room, and the same command goes on from there"
            ) from error
    for old in checkpoints(path.parent)[keep:]:
        old.unlink(missing_ok=True)


def keep_as_best(path: Path) -> None:
    """Link a checkpoint as `best.pth`, so that it remains when old checkpoints are removed."""
    with atomic_path(path.with_name(BEST)) as temporary:
        # A link cannot replace the empty file that `atomic_path` makes.
        temporary.unlink()
        link_or_copy(path, temporary)


def attempts(run_dir: Path) -> list[Path]:
    """List the folders of a run's attempts, newest first."""
    return sorted(
        (path for path in run_dir.glob(f"{ATTEMPT}*") if path.name[len(ATTEMPT) :].isdigit()),
        key=_attempt_number,
        reverse=True,
    )


def _attempt_number(folder: Path) -> int:
    """Return the number in the name of an attempt's folder: 2 for `attempt_2`."""
    return int(folder.name.removeprefix(ATTEMPT))


def begin_attempt(run_dir: Path) -> Path:
    """Make the folder of a new attempt, with links to the checkpoints of earlier attempts.

    Two attempts of a run may be at work at once: a scheduler can start a job again although the
    first one still runs. Each writes only into its own folder, so neither harms the other.

    Args:
        run_dir: The run's directory.
    """
    earlier = attempts(run_dir)
    number = _attempt_number(earlier[0]) if earlier else 0
    while True:
        number += 1
        folder = run_dir / f"{ATTEMPT}{number}"
        # If another process has just made this folder, this attempt takes the next number.
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            break
    for attempt in earlier:
        for path in (*checkpoints(attempt), attempt / BEST):
            # The newest attempt comes first, so its files win over older files of the same name.
            if not (folder / path.name).exists():
                # There may be no best checkpoint yet, or another attempt has just removed the file.
                with contextlib.suppress(FileNotFoundError):
                    link_or_copy(path, folder / path.name)
    return folder


def remove_older(folder: Path) -> None:
    """Remove the folders of earlier attempts than this one, which finished the training."""
    for other in attempts(folder.parent):
        if _attempt_number(other) < _attempt_number(folder):
            shutil.rmtree(other, ignore_errors=True)
