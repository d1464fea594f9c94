"""Rule models_ok: check that the models of `predict: models:` can be averaged, before they run."""

from epic100.base.log import rule_log
from epic100.scoring.averaging import check_models

with rule_log(snakemake.log[0]):
    check_models(list(snakemake.input.models), snakemake.output.ok)
