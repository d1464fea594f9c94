"""The weights that training starts from: fetched once, where `snakemake` runs, and kept.

As with videos, a file that is there is no rule's output: Snakemake would remove it before a job.
"""

from epic100.base.errors import EpicError
from epic100.download.weights import check_weights, probe, start_weights

try:
    WEIGHTS = start_weights(CONFIG["train"], existing_path(CONFIG["train"]["config"], HERE))
    WEIGHTS_FAULT = ""
except EpicError as error:  # a call that trains nothing needs no weights
    WEIGHTS, WEIGHTS_FAULT = None, str(error)
WEIGHTS_TEXT = WEIGHTS.path if WEIGHTS else "random weights"


def weights_to_train_from(wildcards):
    """The file that the rule train starts from, if any."""
    if WEIGHTS_FAULT:
        raise WorkflowError(WEIGHTS_FAULT)
    return [WEIGHTS.path] if WEIGHTS else []


def refuse_unreachable_weights():
    """Raise where this run will train and its weights are not the right ones or not to be had."""
    jobs = {job.rule.name for job in workflow.dag.needrun_jobs()}
    try:
        if "weights" in jobs:
            probe(WEIGHTS)
        elif "train" in jobs and WEIGHTS:
            check_weights(WEIGHTS)
    except EpicError as error:
        raise WorkflowError(str(error)) from error


if WEIGHTS and WEIGHTS.is_url and not os.path.lexists(WEIGHTS.path):

    rule weights:
        output:
            file=WEIGHTS.path,
        log:
            "results/logs/weights.log",
        priority: 100
        localrule: True
        conda:
            "../envs/epic100.yaml"
        threads: 1
        resources:
            mem_mb=1000,
            runtime=60,
            download=1,
        params:
            weights=vars(WEIGHTS),
            settings=CONFIG["download"],
        message:
            "Fetch the start weights {params.weights[source]}"
        script:
            "../workflow/scripts/weights.py"
