"""Rule model_card: describe the model, for people."""

from epic100.base.log import rule_log
from epic100.pages.report import write_model_card

with rule_log(snakemake.log[0]):
    write_model_card(
        snakemake.input.model,
        metrics=snakemake.input.metrics,
        dropped=snakemake.input.dropped,
        salvage=snakemake.input.salvage,
        files={
            name: snakemake.input[key]
            for key, name in snakemake.params.files.items()
            # Random start weights have no file.
            if snakemake.input.get(key)
        },
        out=snakemake.output.card,
    )
