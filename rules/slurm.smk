# What happens around the jobs on Slurm: before the first, during the run, after the last.
#
# This file has only hooks. One of them also applies to a run without Slurm: a run holds its folder
# (epic100.slurm.hold).

import signal
import sys
from contextlib import chdir
from pathlib import Path

from snakemake.cli import get_argument_parser
from snakemake.logging import logger

from epic100.inputs.record import write_record
from epic100.slurm.call import only_looks, options
from epic100.slurm.executor import end_if_not_newest
from epic100.slurm.hold import Hold
from epic100.slurm.limits import cluster_of, refusal, unserved
from epic100.slurm.site import facts_file

HOLD = Hold(Path.cwd(), logger.warning)

overwrites = workflow.resource_settings.overwrite_resources

# Snakemake forgets all that a profile sets, once the command line has `--set-resources`.
if workflow.is_main_process and (profiles := getattr(options(), "profile", None)):
    with chdir(workflow.rundir):
        of_profile = get_argument_parser(profiles).parse_args([])
    for name, resources in (of_profile.set_resources or {}).items():
        resources.update(overwrites.get(name, {}))
        overwrites[name] = resources

if PROBE is not None and PROBE.device == "cuda":  # the profile has it on the CPU
    overwrites["probe_train"] = dict(overwrites.get("predict", {}))

# A rule that the config keeps on the CPU gets the profile's resources for that case.
for section, names in (("train", {"train"}), ("predict", PREDICTING)):
    on_cpu = overwrites.pop(f"{section}_on_cpu", None)
    if on_cpu and getattr(CONFIG, section).gpus_to_ask == 0:
        overwrites.update(dict.fromkeys(names, on_cpu))


def resolved_resources():
    """(job, attempt, resources, threads) of all jobs that will be submitted, retries included."""
    for job in workflow.dag.needrun_jobs():
        if not job.is_local:
            for attempt in range(1, job.restart_times + 2):
                found = job.rule.expand_resources(
                    job.wildcards_dict, job.input, attempt, skip_evaluation={"tmpdir"}
                )
                name = " ".join([job.rule.name, *map(str, job.wildcards)])
                yield name, attempt, dict(found.items()), job.threads


if not workflow.is_main_process:
    # The signal before a time limit goes to every process of a job, and would kill this one.
    # The process that it is for (train) handles it itself.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    end_if_not_newest()
elif not only_looks(options()) and not workflow.output_settings.dryrun:
    HOLD.take()


def without_retries():
    """Retry only what has a benchmark; what takes seconds would fail for the same reason again."""
    for each in workflow.rules:
        if each.benchmark is None and Path(str(each.snakefile)).is_relative_to(HERE):
            each.restart_times = 0


onstart:
    without_retries()
    # Outputs are complete or absent. A job that fails late must not remove those of a newer one.
    workflow.execution_settings.keep_incomplete = True
    if workflow.is_main_process:
        if " " in sys.executable:
            refuse(
                f"{sys.executable}: the path of this environment has a space, at which the shell that "
                "starts a job cuts it: make one without, `make install VENV=/a/path/to/.venv`"
            )
        refuse_links_of_others()
        refuse_what_is_not_there()
        refuse_other_encoders()
        write_record("results" if SWEEP else HOME, RECORD)
    if workflow.is_main_process and workflow.executor_plugin.name == "slurm":
        jobs = list(resolved_resources())
        facts = facts_file(workflow.rundir)
        # The torch of another environment (conda, a container) is not known here.
        own = not workflow.deployment_settings.deployment_method
        settings = workflow.executor_settings
        if why := refusal(jobs, settings, facts) or (unserved(jobs, facts) if own else ""):
            refuse(why)
        refuse_hopeless_training()
        clusters = {cluster_of(resources) for _, _, resources, _ in jobs} - {""}
        logs = settings.logdir and Path(workflow.workdir_init) / settings.logdir
        forget_scans_to_repeat()
        HOLD.submits(sorted(clusters), logs)
    elif workflow.is_main_process:
        refuse_hopeless_training()
        forget_scans_to_repeat()
        HOLD.ends_jobs()


onsuccess:
    HOLD.end()


onerror:
    HOLD.end()


# Snakemake calls only the handlers of its main Snakefile, and the one by snakedeploy does not call
# ours. If this is a module and the Snakefile around it has its own handlers, these must call
# `epic100.onstart()` etc.
if not workflow.modifier.is_main_snakefile():
    for handler in ("onstart", "onsuccess", "onerror"):
        setattr(workflow, f"_{handler}", lambda log, own=globals()[handler]: own())
