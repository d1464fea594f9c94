"""Rule browse_clips: clean segments of a participant -> small clips for the page to browse."""

from epic100.base.log import rule_log
from epic100.pages.browse_clips import make_clips
from epic100.settings.data import ScanLimits
from epic100.video.sheet import Video

with rule_log(snakemake.log[0]):
    make_clips(
        [Video(**row) for row in snakemake.params.rows],
        snakemake.params.root,
        snakemake.output.table,
        segments=snakemake.input.segments,
        index=snakemake.input.index,
        limits=ScanLimits(**snakemake.params.limits),
        threads=snakemake.threads,
    )
