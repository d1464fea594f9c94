"""Rule start_check: files, settings, weights, the whole way of a run once, memory and disk."""

from epic100.base.log import log, rule_log
from epic100.training.before_start import Asked, run_start_check

with rule_log(snakemake.log[0]):
    screen = run_start_check(
        Asked(**snakemake.params.check),
        snakemake.output.screen,
        f"{snakemake.log[0]}.details",
        must_finish=True,
    )
    log.info(screen)
