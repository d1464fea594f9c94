"""Rule report: metrics, figures and examples of a run -> one HTML page."""

from datetime import date
from pathlib import Path

from epic100.base.atomic import links
from epic100.base.disk import read_json
from epic100.base.log import rule_log
from epic100.base.shipped import own_commit, own_version
from epic100.pages.report import write_page
from epic100.pages.report_tables import hardware
from epic100.scoring.epoch_table import read_epochs

with rule_log(snakemake.log[0]):
    given, made, params = snakemake.input, snakemake.output, snakemake.params
    home = Path(made.html).parent
    others = {
        "Every segment": home / "browse/index.html",
        "Model card": home / "model_card.md",
        "All runs": "results/compare.html",
    }
    metrics = read_json(given.metrics)
    about = [
        f"{date.today():%d %B %Y}".removeprefix("0"),
        f"run {params.run or 'default'}",
        " at ".join(filter(None, (f"epic100 {own_version()}", own_commit()))),
        f"trained on {hardware(metrics['trained_on']) or 'an unknown machine'}",
        metrics["data"],
    ]
    write_page(
        made.html,
        metrics=metrics,
        salvage=given.salvage,
        dropped=given.reasons,
        examples=given.examples,
        figures={name: given[name] for name in params.figures},
        policy=params.policy,
        settings=params.settings,
        pages=links(made.html, others),
        unseen=given.get("unseen_participants"),
        classes=given.classes,
        about=about,
        history=read_epochs(given.history) if given.get("history") else None,
    )
