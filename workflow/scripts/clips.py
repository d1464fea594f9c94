"""Rule clips: a participant's segments of a split -> a file each, and a table of them."""

from epic100.base.log import rule_log
from epic100.proxy.precut import cut_participant
from epic100.settings import Settings
from epic100.video.sheet import Video

with rule_log(snakemake.log[0]):
    settings = Settings.part(snakemake.params.settings)
    cut_participant(
        [Video(**row) for row in snakemake.params.rows],
        snakemake.params.root,
        snakemake.output.table,
        segments=snakemake.input.segments,
        index=snakemake.input.index,
        settings=settings.clips,
        limits=settings.scan,
        threads=snakemake.threads,
    )
