"""Rule weights: download the weights that training starts from, and go the whole way with them."""

from pathlib import Path

from epic100.base.errors import EpicError
from epic100.base.log import log, rule_log
from epic100.download.weights import StartWeights, fetch_weights
from epic100.inputs.before_start import Asked, missing_packages, run_start_check

with rule_log(snakemake.log[0]):
    params = snakemake.params
    for about, check in zip(params.weights, params.checks, strict=True):
        weights = StartWeights(**about)
        fetch_weights(weights)
        # The training job says what is missing.
        if missing_packages():
            continue
        try:
            log.info(run_start_check(Asked(**check)))
        except EpicError:
            # The file is no result: the next run fetches it again and tries it.
            Path(weights.path).unlink()
            raise
