"""Rule clips: a participant's segments of a split -> a file each, and a table of them."""

from pathlib import Path

from epic100.base.log import rule_log
from epic100.proxy.cutter import ClipSettings
from epic100.proxy.precut import Sources, cut_participant
from epic100.video.decoder_process import ScanLimits
from epic100.video.sheet import Video

with rule_log(snakemake.log[0]):
    cut_participant(
        [Video(**row) for row in snakemake.params.rows],
        snakemake.input.segments,
        Sources(
            Path(snakemake.params.root),
            Path(snakemake.input.index),
            ClipSettings(**snakemake.params.settings),
            ScanLimits(**snakemake.params.limits),
        ),
        snakemake.output.table,
        threads=snakemake.threads,
    )
