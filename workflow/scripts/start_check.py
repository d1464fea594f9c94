"""Rule start_check: files, settings, weights, the whole way of a run once, memory and disk."""

import sys

from epic100.base.log import log, rule_log
from epic100.training.before_start import Asked, run_start_check

with rule_log(snakemake.log[0]):
    outcome = run_start_check(
        Asked(**snakemake.params.check),
        snakemake.output.screen,
        f"{snakemake.log[0]}.details",
        must_finish=True,
    )
    log.info(outcome.text)
    if not outcome.passed:
        sys.exit(1)
