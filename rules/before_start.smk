# Before the first job of a run that trains, this asks: can the training work at all?
#
# The check is no input of the training: a finished model stays valid without it. So run.smk calls
# it before all jobs (`onstart`).

import time
from contextlib import contextmanager

from snakemake.settings.enums import Quietness

from epic100.base.folders import refuse_links, remove_folder
from epic100.download.weights import fault_of, probe
from epic100.inputs.before_start import Asked, missing_packages, outlook, run_start_check


def asked_of(run):
    """What the start check of a run looks at."""
    return Asked.of(CONFIG, run, HERE, remote=not workflow.local_exec)


def outlook_of(wildcards):
    """What a dry run says of a training: it trains, or takes a finished model."""
    if not (workflow.is_main_process and workflow.dryrun):
        return ""
    if any(job.rule.name in ("clean", "trainval") for job in workflow.dag.needrun_jobs()):
        return ": trains, if no finished model is of the lists that are made before"
    return f": {outlook(asked_of(wildcards.get('run')))}"


@contextmanager
def refusing():
    """Stop the run by an error in here. `--quiet all` hides what Snakemake prints of errors too."""
    try:
        yield
    except EpicError as error:
        if Quietness.ALL in (workflow.output_settings.quiet or ()):
            print(error, file=sys.stderr)
        raise WorkflowError(str(error)) from error


def refuse_links_of_others():
    """Stop a run of which an output, a log or a benchmark lies behind a link of another user:
    Snakemake removes what is there before a job looks."""
    jobs = list(workflow.dag.needrun_jobs())
    files = [file for job in jobs for file in (*job.output, *job.log, job.benchmark) if file]
    refuse_links(map(os.path.dirname, files))


def refuse_what_is_not_there():
    """Stop a run that reads videos, but has none, or that will train, but whose start weights are
    wrong or cannot be fetched."""
    jobs = {job.rule.name for job in workflow.dag.needrun_jobs()}
    if "weights" in jobs:
        for weights, _ in TO_FETCH.values():
            probe(weights)
    if "train" in jobs:
        for weights, _ in START_WEIGHTS.values():
            if weights and not weights.is_to_come and (fault := fault_of(weights)):
                raise EpicError(fault)
    readers = {"scan", "proxy"} | (set() if PROXY else PREDICTING | {"train", "clips"})
    if readers & jobs and NO_VIDEOS:
        raise EpicError(NO_VIDEOS)


def refuse_other_encoders():
    """Stop a run that will show clips to a probe which has no encoder for them, or that will use a
    folder of Hugging Face (a job names it by `encoder`) whose model cannot be built here."""
    jobs = list(workflow.dag.needrun_jobs())
    shown = {"timeline", "background"} & {job.rule.name for job in jobs}
    if PROBE and ENCODER != "hf" and shown:
        raise EpicError(
            f"whole videos can be shown to a probe with `features: encoder: hf` alone, not {ENCODER}; "
            "set it, or take a model of the rule train"
        )
    folders = {job.params.get("encoder") for job in jobs} - {None}
    if folders and not missing_packages():
        from epic100.prediction.hugging_face import HuggingFaceFolder

        for folder in folders:
            HuggingFaceFolder(folder).check()


def forget_scans_to_repeat():
    """Remove the kept results of scans that `-R` asks for: they would answer in place of the files."""
    for job in workflow.dag.needrun_jobs():
        if job.rule.name == "scan" and workflow.dag.reason(job).forced:
            remove_folder(f"results/scan/cache/{job.wildcards.participant}")


def refuse_hopeless_training():
    """Stop a run that will train, if going the whole way once shows that it cannot."""
    trainings = [job for job in workflow.dag.needrun_jobs() if job.rule.name == "train"]
    if MINIKITCHEN and not all(os.path.exists(path) for path in ANNOTATIONS.values()):
        # The demo makes its files first, so there is nothing to check yet.
        return
    if trainings and (workflow.deployment_settings.deployment_method or missing_packages()):
        logger.info("Start check: left to the training job, whose packages are not here")
        return
    runs = [job.wildcards_dict.get("run") for job in trainings]
    different = {asked.digest(): asked for asked in map(asked_of, reversed(runs))}
    for asked in different.values():
        if asked.answer():
            continue
        logger.info("Start check: the whole way once with these settings, before the first job")
        started = time.monotonic()
        try:
            screen = run_start_check(asked)
        except KeyboardInterrupt:
            raise EpicError("stopped by Ctrl-C in the start check; no job was started") from None
        seconds = time.monotonic() - started
        logger.info(f"{screen.splitlines()[0]} ({seconds:.0f} s); {asked.screen}")
