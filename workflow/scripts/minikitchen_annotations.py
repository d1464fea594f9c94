"""Rule minikitchen_annotations: the official CSVs of the mini kitchen."""

from pathlib import Path

from epic100.base.log import rule_log
from epic100.minikitchen import write_annotations
from epic100.settings import Minikitchen, Settings
from epic100.video.sheet import read_sheet

with rule_log(snakemake.log[0]):
    settings = Settings.part(snakemake.params.settings).minikitchen or Minikitchen()
    write_annotations(
        read_sheet(snakemake.input.sheet),
        Path(snakemake.output.train).parent,
        settings.seed,
        level=settings.level,
    )
