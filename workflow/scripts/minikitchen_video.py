"""Rule minikitchen_video: a row of the demo's video sheet -> its film."""

from epic100.base.log import rule_log
from epic100.minikitchen.kitchen import write_video
from epic100.video.sheet import Video

with rule_log(snakemake.log[0]):
    params = snakemake.params
    write_video(
        Video(**params.row),
        snakemake.output.film,
        params.seed,
        damage=params.damage,
        level=params.level,
    )
