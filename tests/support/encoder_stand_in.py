"""Runs the encoder or the cutter, but first does what it is ordered to do to a file. No test here.

    python encoder_stand_in.py FOLDER MODULE FILE...

`FOLDER/{stem of FILE}` has the order: `NAME:WORD...` of `bad_decoders` or of here; it may be empty
or not there. A line a run goes to `FOLDER/runs`.
"""

import os
import resource
import runpy
import signal
import sys
from pathlib import Path

from epic100.proxy import encoder


class Orders:
    """Gives orders and reads what was run. `command` runs `module`."""

    def __init__(self, folder: Path, module: str):
        self._folder, self._runs = folder, folder / "runs"
        self.command = (sys.executable, __file__, str(folder), module)
        folder.mkdir(exist_ok=True)

    def give(self, name: str, order: str = "") -> None:
        (self._folder / name).write_text(order)

    def ran(self) -> list[str]:
        """Files that it was run for since the last call of `runs`."""
        return sorted(self._runs.read_text().split()) if self._runs.exists() else []

    def runs(self) -> list[str]:
        names = self.ran()
        self._runs.unlink(missing_ok=True)
        return names


def find_the_disk_full() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


def be_killed_at_a_third_check() -> None:
    check, checked = encoder.check_copy, []

    def check_copy(*arguments):
        checked.append(arguments)
        if len(checked) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return check(*arguments)

    encoder.check_copy = check_copy


if __name__ == "__main__":
    import bad_decoders  # beside this file

    folder, module, path = map(Path, sys.argv[1:4])
    with open(folder / "runs", "a") as runs:
        print(path.stem, file=runs)
    order = folder / path.stem
    name, *words = order.read_text().split(":") if order.exists() else [""]
    if name:
        (globals().get(name) or getattr(bad_decoders, name))(*words)
    sys.argv = sys.argv[2:]
    runpy.run_module(str(module), run_name="__main__")
