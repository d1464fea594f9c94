"""Rule minikitchen_annotations: the official CSVs of the mini kitchen."""

from pathlib import Path

from epic100.base.log import rule_log
from epic100.minikitchen import write_annotations
from epic100.video.sheet import read_sheet

with rule_log(snakemake.log[0]):
    write_annotations(
        read_sheet(snakemake.input.sheet),
        Path(snakemake.output.train).parent,
        snakemake.params.seed,
        level=snakemake.params.get("level", "easy"),
    )
