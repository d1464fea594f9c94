"""Rule trainval: the clean lists of train and val -> one list and its pair table."""

from epic100.base.log import rule_log
from epic100.segments.cleaning import pool

with rule_log(snakemake.log[0]):
    pool(
        snakemake.input.train,
        snakemake.input.val,
        snakemake.output.segments,
        snakemake.output.pairs,
    )
