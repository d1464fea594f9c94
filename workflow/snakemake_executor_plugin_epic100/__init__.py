"""`snakemake --executor epic100`: jobs on Slurm, with a cluster's bad night in mind.

It submits once, whatever sbatch answers, polls its jobs until they end, and tells a job's own
failures from those of machines. docs/vsc.md has the table.
"""

from snakemake_executor_plugin_slurm import common_settings

from epic100.slurm.executor import Executor, ExecutorSettings

__all__ = ["Executor", "ExecutorSettings", "common_settings"]
