"""Rule export: pair scores -> submission.pt or submission.zip."""

from epic100.base.log import rule_log
from epic100.scoring.submission import export
from epic100.settings.prediction import ExportSettings

with rule_log(snakemake.log[0]):
    settings = ExportSettings(**snakemake.params.export)
    export(
        snakemake.input.predictions,
        snakemake.input.segments,
        snakemake.output.submission,
        split=snakemake.params.split,
        clean=snakemake.input.clean,
        model=snakemake.input.model,
        reduce=settings.reduce,
        sls=settings.sls.model_dump(),
    )
