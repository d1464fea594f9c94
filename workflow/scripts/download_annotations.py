"""Rule download_annotations: the sheet of annotation files -> the missing ones."""

from epic100.base.log import rule_log
from epic100.data.downloads import download_annotations

with rule_log(snakemake.log[0]):
    download_annotations(snakemake.params.files, snakemake.input.sheet)
