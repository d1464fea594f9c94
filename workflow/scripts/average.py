"""Rule average: predictions of several models -> their mean."""

from epic100.base.log import rule_log
from epic100.scoring.predictions import average_files

with rule_log(snakemake.log[0]):
    average_files(
        snakemake.input.parts,
        snakemake.input.models,
        snakemake.output.predictions,
        snakemake.wildcards.split,
    )
