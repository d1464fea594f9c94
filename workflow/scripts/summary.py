"""Rule summary: what was kept and how accurate the model is, as text for people."""

from epic100.base.log import rule_log
from epic100.report.summary import write_summary

with rule_log(snakemake.log[0]):
    write_summary(
        snakemake.input.salvage,
        snakemake.input.metrics,
        snakemake.input.dropped,
        snakemake.output.text,
    )
