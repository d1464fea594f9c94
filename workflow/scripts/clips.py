"""Rule clips: a participant's segments of a split -> a file each, and a table of them."""

from pathlib import Path

from epic100.base.log import rule_log
from epic100.proxy.precut import Sources, cut_participant
from epic100.settings import Settings
from epic100.video.sheet import Video

with rule_log(snakemake.log[0]):
    settings = Settings.part(snakemake.params.settings)
    cut_participant(
        [Video(**row) for row in snakemake.params.rows],
        snakemake.input.segments,
        Sources(
            Path(snakemake.params.root),
            Path(snakemake.input.index),
            settings.clips,
            settings.scan,
        ),
        snakemake.output.table,
        threads=snakemake.threads,
    )
