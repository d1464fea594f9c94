"""The executor's options: those of snakemake-executor-plugin-slurm, and three of its own."""

from dataclasses import dataclass, field

import snakemake_executor_plugin_slurm as plugin
from snakemake_interface_common.exceptions import WorkflowError

LEFTOVERS = ("adopt", "wait", "cancel")


@dataclass
class ExecutorSettings(plugin.ExecutorSettings):
    """The options `--epic100-...` of snakemake: the field `patience` is `--epic100-patience`."""

    patience: int = field(
        default=30,
        metadata={
            "help": "Minutes for which a submission is tried again that fails for no reason of "
            "its own; a full queue is waited for without limit."
        },
    )
    leftovers: str = field(
        default="adopt",
        metadata={
            "help": "What becomes of jobs that a killed run has left: 'adopt' those that this run "
            "would submit alike and wait for the others, 'wait' for all, or 'cancel' them."
        },
    )
    unchecked: bool = field(
        default=False,
        metadata={"help": "Submit without asking first whether each request would be granted."},
    )

    def __post_init__(self) -> None:
        """Refuse an unknown value of `leftovers`, and array jobs."""
        super().__post_init__()
        if self.leftovers not in LEFTOVERS:
            raise WorkflowError(
                f"--epic100-leftovers is {self.leftovers}; expected {', '.join(LEFTOVERS)}"
            )
        if self.array_jobs:
            raise WorkflowError(
                "--epic100-array-jobs: states of array jobs are mixed up (2.8.0); leave it out"
            )
