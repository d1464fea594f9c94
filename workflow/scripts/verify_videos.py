"""Rule verify_videos: compare a participant's files with the md5s of the sheet."""

from epic100.base.log import rule_log
from epic100.download.videos import verify_videos
from epic100.video.sheet import Video

with rule_log(snakemake.log[0]):
    verify_videos(
        [Video(**row) for row in snakemake.params.rows],
        snakemake.params.root,
        snakemake.output.table,
        snakemake.params.receipts,
        threads=snakemake.threads,
    )
