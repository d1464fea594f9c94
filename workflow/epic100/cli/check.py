"""`epic100 check`: what a run in this folder would find, on one screen and without starting it."""

import argparse
import contextlib
import json
import os
import platform
from importlib.metadata import version
from importlib.util import find_spec

from epic100.base.atomic import write_text
from epic100.base.disk import read_json
from epic100.base.errors import EpicError
from epic100.base.machine import usable_cores
from epic100.inputs.archive import find_archive
from epic100.inputs.lines import MISSING, OK, WRONG, Line
from epic100.inputs.read import read_inputs
from epic100.settings import layered_settings

KEPT = ".snakemake/epic100-torch.json"


def run(options: argparse.Namespace) -> int:
    """Print what every input is like; return 1 if one of them stops a run, else 0."""
    config = layered_settings(options.configfile, options.directory)
    with contextlib.chdir(options.directory):
        inputs = read_inputs(config, find_archive(config))
        lines = [Line(OK, "config", "is valid"), *inputs, Line(OK, "torch", _torch())]
    for line in lines:
        print(f"{line.state:8}{line.topic:13}{line.words}")
    return 1 if {WRONG, MISSING} & {line.state for line in lines} else 0


def _torch() -> str:
    """Describe torch and the device that training uses if the workflow chooses it.

    It takes a second to import, so what was said is kept for this torch on this machine.
    """
    package = find_spec("torch")
    installed = os.stat(package.origin).st_mtime_ns if package and package.origin else None
    question = [version("torch") if installed else "", installed, platform.node()]
    with contextlib.suppress(EpicError, OSError, UnicodeDecodeError, ValueError):
        kept_question, answer = read_json(KEPT)
        if kept_question == question:
            return answer
    try:
        import torch
    except ImportError as error:
        raise EpicError(f"torch does not load: {error}; docs/platforms.md") from error
    gpus = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    names = [torch.cuda.get_device_name(n) for n in gpus] or ["no GPU here"]
    answer = f"{torch.__version__}; {', '.join(names)}; {usable_cores()} cores"
    write_text(KEPT, json.dumps([question, answer]))
    return answer
