"""Rule weights: download the weights that training starts from, and compare them with the model."""

from epic100.base.log import log, rule_log
from epic100.download.fetch import FetchSettings
from epic100.download.weights import StartWeights, fetch_weights
from epic100.training.early_call import missing_packages
from epic100.training.settings import TrainSettings

with rule_log(snakemake.log[0]):
    fetch_weights(
        StartWeights(**snakemake.params.weights), FetchSettings(**snakemake.params.settings)
    )
    if not missing_packages():  # else the training job says it
        from epic100.training.fetched import check_fetched

        section = TrainSettings.from_section(snakemake.params.train)
        path, classes = snakemake.output.file, tuple(snakemake.params.classes)
        log.info("%s: %s", path, check_fetched(path, section, classes, snakemake.params.modules))
