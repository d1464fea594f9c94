"""A program that tests start: Snakemake, with shorter waits in the library's code of clusters.

The environment variable SHORTER sets more waits: `hold.JUDGE_SECONDS=3 screen.LINE_SECONDS=20`.
"""

import os
import sys

from snakemake.cli import main

import snakemake_logger_plugin_epic100 as screen
from epic100.base import hold
from epic100.slurm import answers, executor

MODULES = {"executor": executor, "hold": hold, "screen": screen, "answers": answers}
SHORT = (
    "executor.RETRY_SECONDS=2 executor.ARRIVAL_SECONDS=6 hold.ARRIVAL_SECONDS=6 hold.LOOK_SECONDS=2"
)

if __name__ == "__main__":
    for word in f"{SHORT} {os.environ.get('SHORTER', '')}".split():
        place, value = word.split("=")
        module, name = place.split(".")
        assert hasattr(MODULES[module], name)
        setattr(MODULES[module], name, float(value))
    main(sys.argv[1:])
