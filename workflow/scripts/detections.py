"""Rule detections: the timelines of a split -> one file for the official tools for detection."""

from epic100.base.log import rule_log
from epic100.settings import Settings
from epic100.timeline.content import write_detections

with rule_log(snakemake.log[0]):
    settings = Settings.part(snakemake.params.settings)
    sls = settings.export.sls.model_dump()
    write_detections(snakemake.input.timelines, snakemake.output.json, sls)
