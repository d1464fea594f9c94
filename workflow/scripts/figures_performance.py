"""Rule figures_performance: Snakemake's benchmark files -> time and memory of each rule."""

from epic100.base.log import rule_log
from epic100.figures.performance import plot_rules, read_benchmarks

with rule_log(snakemake.log[0]):
    jobs = read_benchmarks(snakemake.params.benchmarks)
    plot_rules(jobs, snakemake.output.rules)
