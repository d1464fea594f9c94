"""Rule videos_ok: the result of the md5 check for the whole archive."""

from epic100.base.log import rule_log
from epic100.download.videos import write_videos_ok

with rule_log(snakemake.log[0]):
    write_videos_ok(snakemake.input.tables, snakemake.output.ok)
