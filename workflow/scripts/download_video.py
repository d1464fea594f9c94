"""Rule download_video: a row of the video sheet -> its file."""

from epic100.base.log import rule_log
from epic100.data.downloads import download_video
from epic100.video.sheet import Video

with rule_log(snakemake.log[0]):
    download_video(Video(**snakemake.params.row), snakemake.params.root)
