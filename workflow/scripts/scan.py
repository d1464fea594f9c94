"""Rule scan: every frame of a participant's videos -> scan table and frame indexes."""

from epic100.base.log import rule_log
from epic100.scan.participant import scan_participant
from epic100.settings.data import ScanLimits
from epic100.video.sheet import Video

with rule_log(snakemake.log[0]):
    videos = [Video(**row) for row in snakemake.params.rows]
    scan_participant(
        videos,
        snakemake.params.root,
        snakemake.output.table,
        snakemake.output.index,
        limits=ScanLimits(**snakemake.params.limits),
        threads=snakemake.threads,
    )
