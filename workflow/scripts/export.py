"""Rule export: pair scores -> submission.pt and submission.zip."""

from epic100.rule_log import rule_log
from epic100.submission.export import export

with rule_log(snakemake.log[0]):
    export(
        snakemake.input.predictions,
        snakemake.input.segments,
        snakemake.output.pt,
        snakemake.output.zip,
        **snakemake.params.settings,
    )
