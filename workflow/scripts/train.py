"""Rule train: clean lists -> the finished model."""

import os

from epic100.base.rule_log import rule_log
from epic100.training import TrainSettings, launch

with rule_log(snakemake.log[0]):
    launch(
        TrainSettings(**{**snakemake.params.settings, "config": snakemake.input.config}),
        snakemake.output.model,
        history_path=snakemake.output.history,
        results="results",
        video_root=snakemake.params.root,
        index_dir=os.path.dirname(snakemake.input.indexes[0]),
        num_verbs=snakemake.params.classes["verbs"],
        num_nouns=snakemake.params.classes["nouns"],
    )
