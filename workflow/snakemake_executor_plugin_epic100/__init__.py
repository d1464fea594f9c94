"""`snakemake --executor epic100`: jobs on Slurm, with a cluster's bad night in mind.

It submits once, whatever sbatch answers, asks for its jobs until they end, and tells a job's own
faults from those of machines. The tables are in docs/vsc.md.
"""

from snakemake_executor_plugin_slurm import common_settings

from epic100.slurm.executor import Executor
from epic100.slurm.options import ExecutorSettings

__all__ = ["Executor", "ExecutorSettings", "common_settings"]
