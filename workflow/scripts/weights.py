"""Rule weights: download the weights that training starts from, and compare them with the model."""

from epic100.base.log import log, rule_log
from epic100.download.weights import StartWeights, fetch_weights
from epic100.settings import Settings, TrainSettings
from epic100.training.early_call import missing_packages

with rule_log(snakemake.log[0]):
    fetch_weights(StartWeights(**snakemake.params.weights))
    if not missing_packages():  # else the training job says it
        from epic100.training.fetched import check_fetched

        settings = Settings.part(snakemake.params.settings)
        section = TrainSettings.model_validate(snakemake.params.train)
        path, classes = snakemake.output.file, (settings.classes.verbs, settings.classes.nouns)
        line = check_fetched(path, section, classes, settings.modules.model_dump())
        log.info("%s: %s", path, line)
