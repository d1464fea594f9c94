"""Rule figures_performance: Snakemake's benchmark files -> time and memory of each rule."""

from epic100.figures.performance import plot_rules, read_benchmarks
from epic100.rule_log import rule_log

with rule_log(snakemake.log[0]):
    plot_rules(read_benchmarks(snakemake.params.benchmarks), snakemake.output.rules)
