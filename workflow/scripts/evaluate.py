"""Rule evaluate: predictions on the validation split -> the official metrics, and a summary."""

from pathlib import Path

from epic100.base.log import log, rule_log
from epic100.data.downloads import data_name
from epic100.pages.report import write_summary
from epic100.scoring.evaluation import evaluate

with rule_log(snakemake.log[0]):
    given, made = snakemake.input, snakemake.output
    evaluate(
        given.predictions,
        given.segments,
        made.metrics,
        lists={key: given[key] for key in snakemake.params.lists},
        data=data_name(given.annotations, given.pins, snakemake.params.name),
        reduce=snakemake.params.reduce,
        clean=given.clean,
        model=given.model,
        settings=snakemake.params.compared,
    )
    write_summary(given.salvage, made.metrics, dropped=given.dropped, out=made.summary)
    log.info(Path(made.summary).read_text(encoding="utf-8").rstrip())
