"""Rule weights: download the weights that training starts from, and go the whole way with them."""

import sys
from dataclasses import replace

from epic100.base.log import log, rule_log
from epic100.download.weights import StartWeights, fetch_weights
from epic100.training.before_start import Asked, missing_packages, run_start_check

with rule_log(snakemake.log[0]):
    fetch_weights(StartWeights(**snakemake.params.weights))
    if not missing_packages():  # else the training job says it
        asked = replace(
            Asked(**snakemake.params.check), weights=snakemake.output.file, weights_to_come=""
        )
        screen = f"{snakemake.params.run}/start_check.txt"
        outcome = run_start_check(asked, screen, f"{snakemake.log[0]}.details")
        log.info(outcome.text)
        if not outcome.passed:
            sys.exit(1)
