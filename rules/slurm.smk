"""What happens around the jobs on Slurm: before the first, beside them, after the last.

Only hooks stand here. A run whose executor is not Slurm meets just one of them: it, too, first
settles what a run on Slurm that was killed has left (epic100.slurm.record).
"""

import os
import signal
import sys
from contextlib import chdir
from pathlib import Path

from snakemake.cli import parse_args
from snakemake.logging import logger

from epic100.slurm.limits import complaint
from epic100.slurm.record import CHOICE, read_run, settle
from epic100.slurm.session import Session
from epic100.slurm.site import facts_file

# Flags of calls that run no job: these must neither wait nor cancel.
LOOKS = """
    dryrun touch lint list_rules list_target_rules print_compilation dag rulegraph filegraph d3dag
    unlock cleanup_metadata cleanup_shadow conda_cleanup_envs conda_create_envs_only archive
    list_conda_envs list_changes list_input_changes list_params_changes list_untracked summary
    detailed_summary containerize container_cleanup_images generate_unit_tests delete_all_output
    delete_temp_output report
""".split()
SESSION = Session(Path.cwd(), logger.warning)


def only_looks(arguments):
    """Whether this call of Snakemake starts no job."""
    with chdir(workflow.rundir):  # a profile's path is relative to where snakemake was called
        _, options = parse_args(arguments)
    return any(getattr(options, name, None) for name in LOOKS)


def resolved_resources():
    """(job, attempt, resources, threads) of all that will be submitted, retries included."""
    for job in workflow.dag.needrun_jobs():
        if not job.is_local:
            for attempt in range(1, job.restart_times + 2):
                found = job.rule.expand_resources(
                    job.wildcards_dict, job.input, attempt, skip_evaluation={"tmpdir"}
                )
                name = " ".join([job.rule.name, *map(str, job.wildcards)])
                yield name, attempt, dict(found.items()), job.threads


if not workflow.is_main_process:
    # The warning before a time limit goes to every process of a job, and would kill this one.
    # The processes that it is meant for (train) say for themselves what they do with it.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
elif read_run(Path.cwd()) is not None and not only_looks(sys.argv[1:]):
    settle(Path.cwd(), logger.warning, os.environ.get(CHOICE, ""))


onstart:
    if workflow.is_main_process and workflow.executor_plugin.name == "slurm":
        jobs = list(resolved_resources())
        if words := complaint(jobs, facts_file(workflow.rundir)):
            raise WorkflowError(words)
        clusters = {resources.get("clusters") for _, _, resources, _ in jobs} - {None}
        SESSION.begin(sorted(clusters))


onsuccess:
    SESSION.end()


onerror:
    SESSION.end()


# Snakemake calls the handlers of its main Snakefile only, and snakedeploy's passes nothing on. Where
# this is a module and the Snakefile around it has handlers, those must call `epic100.onstart()` etc.
if not workflow.modifier.is_main_snakefile():
    for handler in ("onstart", "onsuccess", "onerror"):
        setattr(workflow, f"_{handler}", lambda log, own=globals()[handler]: own())
