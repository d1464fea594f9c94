"""Rule annotations_ok: annotation files -> a line for each, if it is the pinned one."""

from epic100.base.log import rule_log
from epic100.data.downloads import verify_annotations

with rule_log(snakemake.log[0]):
    verify_annotations(snakemake.params.files, snakemake.input.sheet, snakemake.output.ok)
