"""Lets who works on videos do something else first, or something to the video afterwards."""

import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from support import bad_decoders


class Orders:
    """Gives orders and tells which were carried out. `function` works as `work` does, on order."""

    def __init__(self, folder: Path, work: Callable):
        self._folder, self._runs = folder, folder / "runs"
        self.function = partial(obey, folder, work)
        folder.mkdir(parents=True, exist_ok=True)

    def give(self, name: str, *orders: str) -> None:
        """What is done with a file, now and at later calls: `NAME:WORD...`."""
        (self._folder / name).write_text(" ".join(orders))

    def ran(self) -> list[str]:
        """Files that were worked on since the last call of `runs`."""
        return sorted(self._runs.read_text().split()) if self._runs.exists() else []

    def runs(self) -> list[str]:
        names = self.ran()
        self._runs.unlink(missing_ok=True)
        return names


def obey(folder: Path, work: Callable, path: Path, *arguments: object, progress) -> object:
    with open(folder / "runs", "a") as runs:
        print(path.stem, file=runs)
    orders = folder / path.stem
    order, *later = (orders.read_text().split() if orders.exists() else []) or [""]
    orders.write_text(" ".join(later))
    name, *words = order.split(":")
    if name == "meet":  # all that are worked on at once
        while len((folder / "runs").read_text().split()) < int(*words):
            time.sleep(0.05)
    elif name and name not in AFTER:
        getattr(bad_decoders, name)(*words, progress=progress)
    result = work(path, *arguments, progress=progress)
    if name in AFTER:
        AFTER[name](path)
    return result


AFTER: dict[str, Callable[[Path], object]] = {
    "touch": os.utime,
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "replace": lambda path: os.replace(shutil.copy2(path, path.with_suffix(".other")), path),
}
