"""Rule report: what a run cost -> its picture; figures, pictures and examples -> one HTML page."""

from epic100.base.log import rule_log
from epic100.figures.performance import plot_rules, read_benchmarks
from epic100.report.page import write_page

with rule_log(snakemake.log[0]):
    given, made, params = snakemake.input, snakemake.output, snakemake.params
    plot_rules(read_benchmarks(params.benchmarks), made.rules)
    write_page(
        made.html,
        metrics=given.metrics,
        salvage=given.salvage,
        dropped=given.reasons,
        examples=given.examples,
        pictures={"rules": made.rules, **{name: given[name] for name in params.pictures}},
        policy=params.policy,
        unseen=given.get("unseen_participants"),
        run=params.run,
    )
