"""Rule provenance: let Snakemake write its report on the results of this run."""

from epic100.base.log import rule_log
from epic100.report.provenance import write_provenance

with rule_log(snakemake.log[0]):
    write_provenance(
        snakemake.input.results,
        snakemake.output.html,
        snakefile=snakemake.params.snakefile,
        config=snakemake.params.config,
    )
