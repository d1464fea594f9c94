"""Rule report: figures, pictures, examples and what a run cost -> one HTML page."""

from pathlib import Path

from epic100.base.folders import links
from epic100.base.job_costs import read_benchmarks
from epic100.base.log import rule_log
from epic100.report.page import write_page
from epic100.scoring.epoch_table import read_epochs

with rule_log(snakemake.log[0]):
    given, made, params = snakemake.input, snakemake.output, snakemake.params
    epochs = read_epochs(given.history) if given.get("history") else None
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
        pictures={name: given[name] for name in params.pictures},
        policy=params.policy,
        settings=params.settings,
        pages=links(made.html, others),
        unseen=given.get("unseen_participants"),
        classes=given.classes,
        jobs=read_benchmarks(params.benchmarks, epochs),
        history=epochs,
        run=params.run,
    )
