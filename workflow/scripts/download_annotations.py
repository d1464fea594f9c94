"""Rule download_annotations: download the official CSVs and lists at their pinned version."""

from epic100.base.log import rule_log
from epic100.download.annotations import download_annotations
from epic100.download.fetch import FetchSettings

with rule_log(snakemake.log[0]):
    download_annotations(
        dict(snakemake.output.items()),
        snakemake.input.sheet,
        settings=FetchSettings(private_hosts=snakemake.params.private_hosts),
    )
