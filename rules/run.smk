# This file does what must happen around the jobs of a run, wherever they run: before the first, and
# after the last.
#
# A run holds its folder (epic100.base.hold). Whose jobs a killed run has left, and what a job was
# granted, its scheduler tells (epic100.base.scheduler).

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
    """Put what rules, profile and command line say of resources in order.

    Snakemake forgets all that a profile sets, once the command line has `--set-resources`.
    """
    given = workflow.resource_settings.overwrite_resources
    of_call, of_profile = getattr(options(), "set_resources", None) or {}, given
    if of_call:
        with chdir(workflow.rundir):
            profiles = get_argument_parser(options().profile or [])
            of_profile = profiles.parse_args([]).set_resources or {}
    # A rule that the config keeps on the CPU gets the profile's resources for that case. The
    # profile has a probe on the CPU.
    rules = {"train": ["train"], "predict": PREDICTING}
    on_cpu = [section for section in rules if getattr(CONFIG, section).gpus_to_ask == 0]
    instead = {rule: f"{section}_on_cpu" for section in on_cpu for rule in rules[section]}
    if PROBE is not None and PROBE.device == "cuda":
        instead["probe_train"] = "predict"
    plain = [
        {rule: dict(said.items()) for rule, said in each.items()} for each in (of_profile, of_call)
    ]
    given.clear()
    for rule, said in settled(*plain, instead).items():
        given[rule] = Resources({})
        for name, value in said.items():
            given[rule][name] = value


def without_retries():
    """Retry only what has a benchmark; what takes seconds would fail for the same reason again."""
    for each in workflow.rules:
        if each.benchmark is None and Path(str(each.snakefile)).is_relative_to(HERE):
            each.restart_times = 0


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
        with refusing():
            if " " in sys.executable:
                raise EpicError(
                    f"{sys.executable}: the path of this environment has a space, at which the shell "
                    "that starts a job cuts it: make one without, `make install VENV=/a/path/to/.venv`"
                )
            refuse_links_of_others()
            refuse_what_is_not_there()
            refuse_other_encoders()
            write_record("results" if SWEEP else HOME, RECORD)
            adopt = getattr(executor, "adopt", lambda scheduler, left: left)
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
