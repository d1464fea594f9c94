"""Rule report: figures, pictures and examples of a run -> one HTML page."""

from epic100.base.log import rule_log
from epic100.report.page import write_page

with rule_log(snakemake.log[0]):
    given = snakemake.input
    write_page(
        snakemake.output.html,
        metrics=given.metrics,
        salvage=given.salvage,
        dropped=given.reasons,
        examples=given.examples,
        pictures={name: given[name] for name in snakemake.params.pictures},
        policy=snakemake.params.policy,
        unseen=given.get("unseen_participants"),
        run=snakemake.params.run,
    )
