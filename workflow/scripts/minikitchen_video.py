"""Rule minikitchen_video: render one video of the mini kitchen, with damage if asked for."""

from epic100.base.log import rule_log
from epic100.minikitchen import write_video
from epic100.settings import Minikitchen, Settings
from epic100.video.sheet import Video

with rule_log(snakemake.log[0]):
    settings = Settings.part(snakemake.params.settings).minikitchen or Minikitchen()
    write_video(
        Video(**snakemake.params.video),
        snakemake.output.video,
        settings.seed,
        damage=snakemake.params.damage,
        level=settings.level,
    )
