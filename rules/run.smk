# This file has the handlers that Snakemake calls before the first job of a run and after the last.
#
# A run holds its folder (epic100.base.hold). Its scheduler tells which jobs a killed run left, and
# what a job was granted (epic100.base.scheduler).

import signal
import sys
from contextlib import chdir
from pathlib import Path
from snakemake.resources import Resources

from epic100.base.hold import Hold
from epic100.base.jobs import end_if_not_newest, settled
from epic100.base.scheduler import in_charge
from epic100.inputs.record import write_record

HOLD = Hold(Path.cwd(), logger.warning)


def settle_resources():
    """Merge the resources that the profile and the command line set, in place of Snakemake.

    Snakemake forgets all resources of a profile once the command line has `--set-resources`.
    """
    overwritten = workflow.resource_settings.overwrite_resources
    of_call, of_profile = getattr(options(), "set_resources", None) or {}, overwritten
    if of_call:
        # The parser reads the resources of the profile alone if it parses no words of the call.
        with chdir(workflow.rundir):
            profile_parser = get_argument_parser(options().profile or [])
            of_profile = profile_parser.parse_args([]).set_resources or {}
    # A rule that the config keeps on the CPU gets the profile's resources for that case. The
    # profile has a probe on the CPU.
    rules_of_section = {"train": ["train"], "predict": PREDICTING}
    on_cpu = [section for section in rules_of_section if getattr(CONFIG, section).gpus_to_ask == 0]
    entries = {
        name: f"{section}_on_cpu" for section in on_cpu for name in rules_of_section[section]
    }
    if PROBE is not None and PROBE.device == "cuda":
        entries["probe_train"] = "predict"
    profile_resources, call_resources = (
        {name: dict(resources.items()) for name, resources in by_rule.items()}
        for by_rule in (of_profile, of_call)
    )
    # Snakemake keeps this dictionary, so it is changed in place.
    overwritten.clear()
    for rule, resources in settled(profile_resources, call_resources, entries).items():
        overwritten[rule] = Resources({})
        for name, value in resources.items():
            overwritten[rule][name] = value


def without_retries():
    """Set no retries for the rules of this workflow that have no benchmark.

    Their jobs take seconds, and would fail for the same reason again.
    """
    for definition in workflow.rules:
        is_of_this_workflow = Path(str(definition.snakefile)).is_relative_to(HERE)
        if definition.benchmark is None and is_of_this_workflow:
            definition.restart_times = 0


if workflow.is_main_process:
    settle_resources()
    HOLD.clear_locks()
else:
    # The signal before a time limit goes to every process of a job, and would kill this one.
    # The process that it is for (train) handles it itself.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    end_if_not_newest()


onstart:
    # Outputs are complete or absent. A job that fails late must not remove those of a newer one.
    workflow.execution_settings.keep_incomplete = True
    if workflow.is_main_process and not workflow.touch:
        executor, settings = workflow.scheduler._executor, workflow.executor_settings
        with errors_stop_the_run():
            if " " in sys.executable:
                raise EpicError(
                    f"{sys.executable}: the path of this environment has a space, at which the shell "
                    "that starts a job cuts it: make one without, `make install VENV=/a/path/to/.venv`"
                )
            refuse_links_of_others()
            refuse_missing_videos_and_weights()
            refuse_other_encoders()
            write_record("results" if SWEEP else HOME, RECORD)
            # An executor without `adopt` takes over none of the jobs that a killed run has left.
            adopt = getattr(executor, "adopt", lambda scheduler, leftovers: leftovers)
            HOLD.take(adopt, cancels=getattr(settings, "leftovers", "") == "cancel")
            refuse_hopeless_training()
        forget_scans_to_repeat()
        if workflow.executor_plugin.common_settings.local_exec:
            HOLD.ends_jobs()
        else:
            HOLD.submits(in_charge(), getattr(executor, "stop", lambda: None))


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
