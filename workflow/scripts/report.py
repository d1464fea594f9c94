"""Rule report: what a run cost -> its picture; figures, pictures and examples -> one HTML page."""

from pathlib import Path

from epic100.base.job_costs import read_benchmarks
from epic100.base.links import links
from epic100.base.log import rule_log
from epic100.figures.training import plot_rules
from epic100.report.page import write_page
from epic100.scoring.epoch_table import read_epochs

with rule_log(snakemake.log[0]):
    given, made, params = snakemake.input, snakemake.output, snakemake.params
    epochs = read_epochs(given.history) if given.get("history") else None
    trained = None if epochs is None or epochs.empty else epochs["loss"].iloc[-1]
    plot_rules(read_benchmarks(params.benchmarks, epochs), made.rules)
    home = Path(made.html).parent
    others = {
        "Every segment": home / "browse/index.html",
        "Model card": home / "model_card.md",
        "All runs": "results/compare.html",
    }
    write_page(
        made.html,
        metrics=given.metrics,
        salvage=given.salvage,
        dropped=given.reasons,
        examples=given.examples,
        pictures={"rules": made.rules, **{name: given[name] for name in params.pictures}},
        policy=params.policy,
        settings=params.settings,
        pages=links(made.html, others),
        unseen=given.get("unseen_participants"),
        trained=trained,
        run=params.run,
    )
