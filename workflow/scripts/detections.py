"""Rule detections: timelines of a split -> one file for the official tools."""

from epic100.base.log import rule_log
from epic100.prediction.timeline import write_detections
from epic100.settings.prediction import ExportSettings

with rule_log(snakemake.log[0]):
    sls = ExportSettings(**snakemake.params.export).sls
    write_detections(snakemake.input.timelines, snakemake.output.detections, sls.model_dump())
