# These lines run before the first job of a run. Jobs read this file too.

import shutil
import signal

from epic100.base.lock import end_if_not_newest
from epic100.base.lock import note_lock, open_lock_of_killed_run
from epic100.base.machine import handle_in_thread
from epic100.cli.start import (
    reject_missing_videos,
    reject_missing_weights,
    require_usable_encoders,
    request_of,
    try_training,
)
from epic100.cli.where import write_record


def reject_what_would_fail(planned):
    """Stop a run that lacks what its jobs need, before hours have gone into other jobs."""
    rules = {job.rule.name for job in planned}
    reject_missing_videos(rules, NO_VIDEOS, NO_VAL, has_copies=bool(PROXY))
    reject_missing_weights(rules, [weights for weights, _ in START_WEIGHTS.values()])
    # A job names the folder of its encoder by its parameter `encoder`.
    folders = {job.params.get("encoder") for job in planned} - {None}
    require_usable_encoders(folders)
    for run in {job.wildcards_dict.get("run") for job in planned if job.rule.name == "train"}:
        # The demo's training is known to work.
        if not MINIKITCHEN:
            try_training(trial_of(run), logger.info)


def trial_of(run):
    """The request for the trial of a run's training."""
    return request_of(CONFIG, run, HERE, remote=not workflow.local_exec)


def forget_scans_to_repeat(planned):
    """Remove the cached results of scans that `-R` repeats, so that these decode the files again."""
    for job in planned:
        if job.rule.name == "scan" and workflow.dag.reason(job).forced:
            cache = f"results/scan/cache/{job.wildcards.participant}"
            shutil.rmtree(cache, ignore_errors=True)


if workflow.is_main_process:
    open_lock_of_killed_run(logger.warning)
else:
    # The signal before a time limit goes to every process of a job, and would kill this one. The
    # training has its own handler.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    end_if_not_newest()


onstart:
    note_lock()
    handle_in_thread(signal.SIGTERM)
    if not workflow.touch:
        planned = list(workflow.dag.needrun_jobs())
        try:
            reject_what_would_fail(planned)
        except EpicError as error:
            raise WorkflowError(str(error)) from error
        write_record(CONFIG, workflow.overwrite_configfiles, INPUT_FILES, HERE)
        forget_scans_to_repeat(planned)
