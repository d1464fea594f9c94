"""Rule figures_performance: Snakemake's benchmark files -> time and memory of each rule."""

from epic100.base.log import rule_log
from epic100.figures.performance import plot_rules, read_benchmarks
from epic100.figures.style import draw_both

with rule_log(snakemake.log[0]):
    jobs = read_benchmarks(snakemake.params.benchmarks)
    draw_both(plot_rules, jobs, paths=snakemake.output.rules)
