"""Rule export: pair scores -> submission.pt or submission.zip."""

from epic100.base.log import rule_log
from epic100.submission.export import export

with rule_log(snakemake.log[0]):
    export(
        snakemake.input.predictions,
        snakemake.input.segments,
        snakemake.output.submission,
        split=snakemake.params.split,
        clean=snakemake.input.clean,
        model=snakemake.input.model,
        **snakemake.params.settings,
    )
