"""Rule model_card: describe the model, for people and in MMAction2's format."""

from epic100.base.log import rule_log
from epic100.report.model_card import write_model_card

with rule_log(snakemake.log[0]):
    write_model_card(
        snakemake.input.model,
        snakemake.input.metrics,
        snakemake.input.dropped,
        snakemake.input.salvage,
        {
            name: snakemake.input[key]
            for key, name in snakemake.params.files.items()
            # Random weights have no file.
            if snakemake.input.get(key)
        },
        snakemake.output.card,
        snakemake.output.metafile,
    )
