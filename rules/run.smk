# These are the handlers that Snakemake calls before the first job of a run and after the last one.
#
# A run holds its folder, so that no other run writes there (epic100.base.hold). Its scheduler lists
# the jobs that a killed run has left (epic100.base.scheduler).

import signal
import sys
from contextlib import chdir, contextmanager
from pathlib import Path
from snakemake.resources import Resources
from snakemake.settings.enums import Quietness

from epic100.base.folders import refuse_links, remove_folder
from epic100.base.hold import Hold
from epic100.base.jobs import end_if_not_newest, settled
from epic100.base.scheduler import in_charge
from epic100.download.weights import fault_of, probe
from epic100.inputs.record import write_record
from epic100.inputs.trials import request_of, try_training

HOLD = Hold(Path.cwd(), logger.warning)


def settle_resources():
    """Merge the resources that the profile and the command line set, in place of Snakemake.

    Snakemake ignores all resources of a profile if the command line has `--set-resources`.
    """
    overwritten = workflow.resource_settings.overwrite_resources
    of_profile = overwritten
    of_call = getattr(options(), "set_resources", None) or {}
    if of_call:
        # The parser reads only the resources of the profile if it parses no words of the call.
        with chdir(workflow.rundir):
            profile_parser = get_argument_parser(options().profile or [])
            of_profile = profile_parser.parse_args([]).set_resources or {}
    merged = settled(plain_resources(of_profile), plain_resources(of_call), entries_of_rules())
    # Snakemake keeps this dictionary, so its content is replaced.
    overwritten.clear()
    for rule, resources in merged.items():
        overwritten[rule] = Resources({})
        for name, value in resources.items():
            overwritten[rule][name] = value


def plain_resources(by_rule):
    """Snakemake's resources of each rule as plain dictionaries, which `settled` can merge."""
    return {rule: dict(resources.items()) for rule, resources in by_rule.items()}


def entries_of_rules():
    """The entry of the profile for each rule that does not take the entry of its own name.

    A rule that the config keeps on the CPU takes `train_on_cpu` or `predict_on_cpu`. The entry of a
    probe is for the CPU, so a probe on a GPU takes that of `predict`."""
    entries = {}
    if CONFIG.train.gpus_to_ask == 0:
        entries["train"] = "train_on_cpu"
    if CONFIG.predict.gpus_to_ask == 0:
        entries |= dict.fromkeys(PREDICTING, "predict_on_cpu")
    if PROBE is not None and PROBE.device == "cuda":
        entries["probe_train"] = "predict"
    return entries


def retry_no_short_rules():
    """Set no retries for the short rules of this workflow: those that have no benchmark.

    A rule has a benchmark if its jobs take more than seconds. A short job would fail again for the
    same reason.
    """
    for definition in workflow.rules:
        is_of_this_workflow = Path(str(definition.snakefile)).is_relative_to(HERE)
        if definition.benchmark is None and is_of_this_workflow:
            definition.restart_times = 0


@contextmanager
def errors_stop_the_run():
    """Turn an EpicError in this block into an error by which Snakemake stops the run."""
    try:
        yield
    except EpicError as error:
        # With `--quiet all` Snakemake prints no error either.
        if Quietness.ALL in (workflow.output_settings.quiet or ()):
            print(error, file=sys.stderr)
        raise WorkflowError(str(error)) from error


def refuse_links_of_others():
    """Stop a run if an output, a log or a benchmark lies in a folder that is another user's link.

    Snakemake would remove the file behind the link before a job could look."""
    jobs = workflow.dag.needrun_jobs()
    files = [file for job in jobs for file in (*job.output, *job.log, job.benchmark) if file]
    refuse_links(os.path.dirname(file) for file in files)


def refuse_missing_videos_and_weights():
    """Stop a run that reads videos, but has none, or that trains, but whose start weights are wrong
    or cannot be fetched."""
    planned = {job.rule.name for job in workflow.dag.needrun_jobs()}
    if "weights" in planned:
        for weights, _ in TO_FETCH.values():
            probe(weights)
    if "train" in planned:
        for weights, _ in START_WEIGHTS.values():
            if weights and not weights.needs_download and (fault := fault_of(weights)):
                raise EpicError(fault)
    readers = {"scan", "proxy"}
    # With small copies, only the scan and the copying read the videos themselves.
    if not PROXY:
        readers |= PREDICTING | {"train", "clips"}
    if readers & planned and NO_VIDEOS:
        raise EpicError(NO_VIDEOS)


def refuse_other_encoders():
    """Stop a run whose encoder cannot work.

    A probe that reads whole videos needs an encoder of Hugging Face, and the model of a folder of
    Hugging Face must be one that can be built here."""
    jobs = list(workflow.dag.needrun_jobs())
    reads_whole_videos = {"timeline", "background"} & {job.rule.name for job in jobs}
    if PROBE and ENCODER != "hf" and reads_whole_videos:
        raise EpicError(
            f"whole videos can be shown to a probe with `features: encoder: hf` alone, not {ENCODER}; "
            "set it, or take a model of the rule train"
        )
    # A job names the folder by its parameter `encoder`.
    folders = {job.params.get("encoder") for job in jobs} - {None}
    # With `--sdm conda`, only the jobs have torch.
    if folders and importlib.util.find_spec("torch"):
        from epic100.prediction.hugging_face import HuggingFaceFolder

        for folder in folders:
            HuggingFaceFolder(folder).check()


def forget_scans_to_repeat():
    """Remove the cached results of scans that `-R` repeats, so that these decode the files again."""
    for job in workflow.dag.needrun_jobs():
        if job.rule.name == "scan" and workflow.dag.reason(job).forced:
            remove_folder(f"results/scan/cache/{job.wildcards.participant}")


def try_trainings():
    """Stop a run whose training would fail. The demo's training is known to work."""
    trainings = [job for job in workflow.dag.needrun_jobs() if job.rule.name == "train"]
    try:
        for job in [] if MINIKITCHEN else trainings:
            try_training(trial_of(job.wildcards_dict.get("run")), logger.info)
    except KeyboardInterrupt:
        raise EpicError("stopped by Ctrl-C in the trial; no job was started") from None


def trial_of(run):
    """The request for the trial of a run's training."""
    return request_of(CONFIG, run, HERE, remote=not workflow.local_exec)


if workflow.is_main_process:
    settle_resources()
    HOLD.clear_locks()
else:
    # The signal before a time limit goes to every process of a job, and would kill this one. The
    # training has a handler of its own.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    end_if_not_newest()


onstart:
    # Outputs are complete or absent. A job that fails must not remove those that a newer job has made.
    workflow.execution_settings.keep_incomplete = True
    if workflow.is_main_process and not workflow.touch:
        executor = workflow.scheduler._executor
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
            # Then this function returns all of them as they are.
            adopt = getattr(executor, "adopt", lambda scheduler, leftovers: leftovers)
            leftovers = getattr(workflow.executor_settings, "leftovers", "")
            HOLD.take(adopt, cancels=leftovers == "cancel")
            try_trainings()
        forget_scans_to_repeat()
        if workflow.executor_plugin.common_settings.local_exec:
            HOLD.forward_signals()
        else:
            HOLD.record_scheduler(in_charge(), getattr(executor, "stop", lambda: None))


onsuccess:
    HOLD.end()


onerror:
    HOLD.end()


# Snakemake calls only the handlers of its main Snakefile. If this workflow is used as a module, its
# handlers become those of the main Snakefile here. Handlers that the main Snakefile defines itself
# come later, so these must call `epic100.onstart()` etc.
if not workflow.modifier.is_main_snakefile():
    # Without the default argument, each function would call the handler of the last iteration.
    for handler in ("onstart", "onsuccess", "onerror"):
        setattr(workflow, f"_{handler}", lambda log, own=globals()[handler]: own())
