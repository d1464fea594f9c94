"""Rule start_model: the model of `train:` with its start weights, as a model file."""

from epic100.base.log import rule_log
from epic100.training.settings import TrainSettings
from epic100.training.start_model import save_start_model

with rule_log(snakemake.log[0]):
    save_start_model(
        TrainSettings.from_section(
            {
                **snakemake.params.settings,
                "config": snakemake.input.config,
                "load_from": next(iter(snakemake.input.weights), None),
            }
        ),
        snakemake.output.model,
        results="results",
        video_root=snakemake.params.root,
        classes=(snakemake.params.classes["verbs"], snakemake.params.classes["nouns"]),
        modules=snakemake.params.modules,
    )
