"""Rule trainval: the clean lists of train and val -> one list, and its pair table."""

from epic100.base.log import rule_log
from epic100.data.cleaning import join_train_and_val

with rule_log(snakemake.log[0]):
    join_train_and_val(
        snakemake.input.train,
        snakemake.input.val,
        snakemake.output.segments,
        snakemake.output.pairs,
    )
