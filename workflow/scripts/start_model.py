"""Rule start_model: the model of `train:` with its start weights, as a model file."""

from epic100.base.log import rule_log
from epic100.settings import Settings
from epic100.training.finished import save_start_model

with rule_log(snakemake.log[0]):
    settings = Settings.part(snakemake.params.settings)
    save_start_model(
        settings.train.begun_with(
            snakemake.input.config, next(iter(snakemake.input.weights), None)
        ),
        snakemake.output.model,
        results="results",
        video_root=snakemake.params.root,
        classes=(settings.classes.verbs, settings.classes.nouns),
        modules=settings.modules.model_dump(),
    )
