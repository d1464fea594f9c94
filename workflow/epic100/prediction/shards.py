"""The shards of a prediction: a file with the rows of each item, so that a stop loses one item.

A shard is used only if the model, the views, the video and its segments are unchanged; otherwise
its rows are computed again. The folder of shards is no output of the workflow, because Snakemake
removes the outputs of a job before it starts and when it fails. The shards of the last three
predictions stay. So going back to an earlier model or other views needs no new computation.
"""

import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import torch

from epic100.base.torch_file import BrokenFile, read_tensors, write_tensors
from epic100.prediction.work import PredictionJob, WorkItem

log = logging.getLogger(__name__)

# Besides the shards of this prediction, the shards of this number of others stay.
OTHERS_KEPT = 2


def folder_of_shards(out: str | os.PathLike) -> Path:
    """Return the folder that has the shards of a file: `val.shards` of `val.pt`."""
    return Path(out).with_suffix(".shards")


class Shards:
    """The shards of one prediction, in `{out}.shards/{digest of source and views}/`.

    Args:
        job: The prediction.
    """

    def __init__(self, job: PredictionJob):
        """Derive the folder of the shards from the job."""
        source, settings = job.source, job.settings
        key = f"{source.encoder} {source.digest} {settings.clips} {settings.crops}"
        self.folder = folder_of_shards(job.out) / hashlib.sha256(key.encode()).hexdigest()[:16]

    def path(self, item: WorkItem) -> Path:
        """Return the path of the shard of an item."""
        return self.folder / f"{item.name}.pt"

    def write(self, item: WorkItem, rows: torch.Tensor) -> None:
        """Write the rows of an item, [segments, columns], atomically."""
        write_tensors({"fingerprint": item.fingerprint, "rows": rows}, self.path(item))

    def read(self, items: Iterable[WorkItem]) -> dict[str, torch.Tensor]:
        """Read the rows of the items that have an intact shard of their fingerprint, by name."""
        rows = {}
        for item in items:
            path = self.path(item)
            if not path.is_file():
                continue
            try:
                content = read_tensors(path, "a shard", "its segments are predicted again")
            except BrokenFile as error:
                log.warning(str(error))
                continue
            if isinstance(content, dict) and content.get("fingerprint") == item.fingerprint:
                rows[item.name] = content["rows"]
        return rows

    def keep_newest(self) -> None:
        """Remove the shards of other predictions than this one, but for the newest `OTHERS_KEPT`.

        The shards of this prediction become the newest.
        """
        # The folder does not exist before the first shard of this prediction.
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.folder)
        other_folders = [path for path in self.folder.parent.glob("*") if path != self.folder]
        other_folders.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in other_folders[OTHERS_KEPT:]:
            # Another process may remove the same folder.
            shutil.rmtree(path, ignore_errors=True)


def remove_shards(out: str | os.PathLike) -> None:
    """Remove the shards of a file whose rows are stored elsewhere now."""
    folder = folder_of_shards(out)
    # A file whose name begins with a dot is being written by another attempt.
    for shard in folder.glob("*/[!.]*"):
        shard.unlink(missing_ok=True)
    for directory in (*folder.glob("*"), folder):
        # A folder that still holds a file of another attempt stays.
        with contextlib.suppress(OSError):
            directory.rmdir()
