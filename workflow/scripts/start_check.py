"""Rule start_check: settings, annotations, videos, weights, one training step, disk, device."""

import sys

from epic100.base.log import log, rule_log
from epic100.training.early_call import EarlyCheck, run_early_check

with rule_log(snakemake.log[0]):
    outcome = run_early_check(
        EarlyCheck(**snakemake.params.check),
        snakemake.output.screen,
        f"{snakemake.log[0]}.details",
        must_finish=True,
    )
    log.info(outcome.text)
    if outcome.error:
        sys.exit(1)
