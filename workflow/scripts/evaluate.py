"""Rule evaluate: predictions on the validation split -> the official metrics."""

from epic100.base.log import log, rule_log
from epic100.scoring.evaluation import evaluate
from epic100.settings import Settings

with rule_log(snakemake.log[0]):
    settings = Settings.part(snakemake.params.settings).export
    figures = evaluate(
        snakemake.input.predictions,
        snakemake.input.segments,
        snakemake.output.metrics,
        lists={key: snakemake.input[key] for key in snakemake.params.lists},
        reduce=settings.reduce,
        clean=snakemake.input.clean,
        model=snakemake.input.model,
    )
    for name in ("overall", "readable"):
        for task in ("verb", "noun", "action"):
            top1, top5 = (figures[f"{name}_{task}_accuracy_at_{k}"] for k in (1, 5))
            if top1 is not None:  # None if no segment was predicted
                log.info(f"{name:>8} {task:>6}: top-1 {top1:6.2f} %  top-5 {top5:6.2f} %")
