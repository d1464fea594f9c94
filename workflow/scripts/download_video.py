"""Rule download_video: download one video, with resumption, and verify it."""

from epic100.base.log import rule_log
from epic100.download.fetch import FetchSettings
from epic100.download.videos import download_video
from epic100.video.sheet import Video

with rule_log(snakemake.log[0]):
    download_video(
        Video(**snakemake.params.video),
        snakemake.params.root,
        snakemake.params.receipts,
        settings=FetchSettings(private_hosts=snakemake.params.private_hosts),
    )
