"""Rule videos_ok: scan tables -> how many videos are the ones of the sheet."""

from epic100.base.log import rule_log
from epic100.data.downloads import write_videos_ok
from epic100.video.sheet import Video

with rule_log(snakemake.log[0]):
    videos = [Video(**row) for row in snakemake.params.rows]
    write_videos_ok(videos, snakemake.input.tables, snakemake.output.ok)
