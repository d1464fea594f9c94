"""Rule weights: download the start weights of trainings, and make a trial with them."""

from pathlib import Path

from epic100.base.errors import EpicError
from epic100.base.log import log, rule_log
from epic100.cli.start import try_training
from epic100.data.start_weights import StartWeights, fetch_weights

with rule_log(snakemake.log[0]):
    params = snakemake.params
    for fields, request in zip(params.weights, params.trials, strict=True):
        weights = StartWeights(**fields)
        fetch_weights(weights)
        try:
            try_training(request, log.info)
        except EpicError:
            # A file that stays would not be tried again; the next run fetches it and tries it.
            Path(weights.path).unlink()
            raise
