"""Before the first job of a run that trains: can this training work at all?

The check is no input of the training: a finished model stays valid without it. So slurm.smk calls it
before all jobs (`onstart`).
"""

import time

from epic100.download.weights import check_weights, probe
from epic100.training.early_call import (
    EarlyCheck,
    missing_packages,
    passed_before,
    run_early_check,
)

START_CHECK_FILE = "results/start_check.txt"
START_CHECK_LOG = "results/logs/start_check.log"
ANNOTATIONS_TO_COME = bool(MINIKITCHEN or DOWNLOAD_ANNOTATIONS)


def start_check(run=None):
    """What the start check of a run looks at, with the weights that are on disk."""
    section = CONFIG.of_run(run).train
    weights, _ = START_WEIGHTS.get(run) or next(iter(START_WEIGHTS.values()))
    there = weights is not None and os.path.isfile(weights.path)
    return EarlyCheck(
        settings=section.model_dump(by_alias=True)
        | {
            "config": str(existing_path(section.config, HERE)),
            "load_from": weights.path if there else None,
            "from_scratch": False,
        },
        weights_to_come=weights.source if weights and not there else "",
        annotations=ANNOTATIONS,
        sheet=str(SHEET),
        video_root=VIDEO_ROOT,
        participants=PARTICIPANTS,
        results="results",
        num_verbs=CONFIG.classes.verbs,
        num_nouns=CONFIG.classes.nouns,
        reading={
            "classes": CONFIG.classes.model_dump(),
            "format": CONFIG.annotations.format,
            "subset": CONFIG.videos.subset,
        },
        annotations_to_come=ANNOTATIONS_TO_COME,
        videos_to_come=bool(MINIKITCHEN or DOWNLOAD),
        remote=getattr(options(), "executor", None) not in (None, "local"),
        modules=CONFIG.modules.model_dump(),
        views=CONFIG.predict.model_dump(include={"clips", "crops"}),
    )


def refuse_missing_root():
    """Raise for a run that needs videos below a folder that does not exist."""
    readers = {"scan", "proxy", "verify_videos"} | (
        set() if PROXY else {"train", "predict", "timeline", "clips", "features"}
    )
    if MINIKITCHEN or DOWNLOAD or os.path.isdir(VIDEO_ROOT):
        return
    if readers & {job.rule.name for job in workflow.dag.needrun_jobs()}:
        raise WorkflowError(NO_ROOT)


def refuse_unreachable_weights():
    """Raise if this run will train, but its start weights are wrong or cannot be fetched."""
    jobs = {job.rule.name for job in workflow.dag.needrun_jobs()}
    try:
        for weights, _ in START_WEIGHTS.values() if "train" in jobs else ():
            if weights and weights.path in TO_FETCH:
                probe(weights)
            elif weights:
                check_weights(weights)
    except EpicError as error:
        raise WorkflowError(str(error)) from error


def refuse_hopeless_training():
    """Raise if this run will train, and a trial of one step shows that it cannot."""
    runs = [
        job.wildcards_dict.get("run")
        for job in workflow.dag.needrun_jobs()
        if job.rule.name == "train"
    ]
    if MINIKITCHEN and not all(os.path.exists(path) for path in ANNOTATIONS.values()):
        return  # the demo makes its files first
    if runs and (workflow.deployment_settings.deployment_method or missing_packages()):
        logger.info("Start check: left to the training job, whose packages are not here")
        return
    for run in runs:
        check = start_check(run)
        file = f"{HOME.format(run=run)}/start_check.txt"
        if passed_before(check, file):
            continue
        logger.info("Start check: one training step with these settings, before the first job")
        started = time.monotonic()
        outcome = run_early_check(check, file, f"{START_CHECK_LOG}.details")
        if outcome.error:
            raise WorkflowError(outcome.text)
        seconds = time.monotonic() - started
        logger.info(f"{outcome.text.splitlines()[0]} ({seconds:.0f} s); {file}")
