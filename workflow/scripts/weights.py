"""Rule weights: download the weights that training starts from."""

from epic100.base.log import rule_log
from epic100.download.fetch import FetchSettings
from epic100.download.weights import StartWeights, fetch_weights

with rule_log(snakemake.log[0]):
    fetch_weights(
        StartWeights(**snakemake.params.weights), FetchSettings(**snakemake.params.settings)
    )
