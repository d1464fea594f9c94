"""Rule weights: download the weights that training starts from, and go the whole way with them."""

from dataclasses import replace
from pathlib import Path

from epic100.base.errors import EpicError
from epic100.base.log import log, rule_log
from epic100.download.weights import StartWeights, fetch_weights
from epic100.training.before_start import Asked, missing_packages, run_start_check

with rule_log(snakemake.log[0]):
    params = snakemake.params
    for about, check, home in zip(params.weights, params.checks, params.homes, strict=True):
        weights = StartWeights(**about)
        fetch_weights(weights)
        # The training job says what is missing.
        if missing_packages():
            continue
        asked = replace(Asked(**check), weights=weights.path, weights_to_come="")
        screen = f"{home}/start_check.txt"
        try:
            log.info(run_start_check(asked, screen, f"{snakemake.log[0]}.details"))
        except EpicError:
            # The file is no result: the next run fetches it again and tries it.
            Path(weights.path).unlink()
            raise
