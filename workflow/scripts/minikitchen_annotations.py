"""Rule minikitchen_annotations: the demo's video sheet -> its CSVs."""

from epic100.base.log import rule_log
from epic100.minikitchen.kitchen import write_annotations
from epic100.video.sheet import Video

with rule_log(snakemake.log[0]):
    params = snakemake.params
    videos = [Video(**row) for row in params.rows]
    write_annotations(videos, params.folder, params.seed, params.level)
