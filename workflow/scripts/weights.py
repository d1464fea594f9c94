"""Rule weights: download the start weights of trainings, and run the start check with them."""

from pathlib import Path

from epic100.base.errors import EpicError
from epic100.base.log import log, rule_log
from epic100.download.weights import StartWeights, fetch_weights
from epic100.inputs.before_start import StartCheckRequest, missing_packages, run_start_check

with rule_log(snakemake.log[0]):
    params = snakemake.params
    for fields, question in zip(params.weights, params.checks, strict=True):
        weights = StartWeights(**fields)
        fetch_weights(weights)
        # Without these packages no check can run here; the training job has them or names them.
        if missing_packages():
            continue
        try:
            log.info(run_start_check(StartCheckRequest(**question)))
        except EpicError:
            # A file that stays would not be tried again; the next run fetches it and tries it.
            Path(weights.path).unlink()
            raise
