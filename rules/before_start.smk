# These functions stop a run before its first job if it cannot work; run.smk calls them (`onstart`).
#
# The start check of a training is no input of the training: a finished model stays valid without
# it.

import time
from contextlib import contextmanager

from snakemake.settings.enums import Quietness

from epic100.base.folders import refuse_links, remove_folder
from epic100.download.weights import fault_of, probe
from epic100.inputs.before_start import StartCheckRequest, distinct_requests, missing_packages
from epic100.inputs.before_start import outlooks, run_start_check


def request_of(run):
    """The request for the start check of a run: the settings and files of the training."""
    return StartCheckRequest.of(CONFIG, run, HERE, remote=not workflow.local_exec)


@functools.cache
def outlook_by_run():
    """For each run of the config: whether it trains, and how long, or takes a finished model.

    Snakemake asks for one run after the other, but one process answers for all of them."""
    runs = [run for run, (_, fault) in START_WEIGHTS.items() if not fault]
    return dict(zip(runs, outlooks([request_of(run) for run in runs]), strict=True))


def outlook_of(wildcards):
    """The end of the training's message in a dry run, as `: trains, about 3 hours`.

    It is "" in other calls, since the answer needs a look at files."""
    if not (workflow.is_main_process and workflow.dryrun):
        return ""
    # If the lists of segments are made anew, nobody knows yet whether a finished model fits them.
    if any(job.rule.name in ("clean", "trainval") for job in workflow.dag.needrun_jobs()):
        return ": trains, if no finished model is of the lists that are made before"
    return f": {outlook_by_run()[wildcards.get('run')]}"


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
    jobs = list(workflow.dag.needrun_jobs())
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
    if folders and not missing_packages():
        from epic100.prediction.hugging_face import HuggingFaceFolder

        for folder in folders:
            HuggingFaceFolder(folder).check()


def forget_scans_to_repeat():
    """Remove the cached results of scans that `-R` repeats, so that these decode the files again."""
    for job in workflow.dag.needrun_jobs():
        if job.rule.name == "scan" and workflow.dag.reason(job).forced:
            remove_folder(f"results/scan/cache/{job.wildcards.participant}")


def refuse_hopeless_training():
    """Stop a run that will train, if the start check shows that the training cannot work.

    `run_start_check` then raises an EpicError, at which `errors_stop_the_run` stops the run."""
    trainings = [job for job in workflow.dag.needrun_jobs() if job.rule.name == "train"]
    if MINIKITCHEN and not all(os.path.exists(path) for path in ANNOTATIONS.values()):
        # The demo makes its files first, so there is nothing to check yet.
        return
    if trainings and (workflow.deployment_settings.deployment_method or missing_packages()):
        logger.info("Start check: left to the training job, whose packages are not here")
        return
    requests = [request_of(job.wildcards_dict.get("run")) for job in trainings]
    for request in distinct_requests(requests):
        # If an earlier check of the same settings and files has passed, it is not repeated.
        if request.earlier_report():
            continue
        logger.info("Start check: the whole way once with these settings, before the first job")
        started = time.monotonic()
        try:
            report_text = run_start_check(request)
        except KeyboardInterrupt:
            raise EpicError("stopped by Ctrl-C in the start check; no job was started") from None
        seconds = time.monotonic() - started
        logger.info(f"{report_text.splitlines()[0]} ({seconds:.0f} s); {request.report_path}")
