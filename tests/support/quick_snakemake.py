"""A program that tests start: Snakemake, with shorter waits in the library's code of clusters.

The variable SHORTER sets more waits: `executor.SBATCH_SECONDS=3 screen.LINE_SECONDS=20`.
"""

import os
import sys

from snakemake.cli import main

import snakemake_logger_plugin_epic100 as screen
from epic100.slurm import executor, queue

MODULES = {"executor": executor, "queue": queue, "screen": screen}
SHORT = "executor.RETRY_SECONDS=2 executor.ARRIVAL_SECONDS=6"

if __name__ == "__main__":
    for word in f"{SHORT} {os.environ.get('SHORTER', '')}".split():
        place, value = word.split("=")
        module, name = place.split(".")
        assert hasattr(MODULES[module], name)
        setattr(MODULES[module], name, float(value))
    main(sys.argv[1:])
