"""Rule clips_list: the clips of a split -> the list that MMAction2's `VideoDataset` reads."""

from epic100.base.log import rule_log
from epic100.proxy.precut import write_list

with rule_log(snakemake.log[0]):
    write_list(
        snakemake.input.segments,
        snakemake.input.pairs,
        snakemake.input.tables,
        snakemake.output.list,
    )
