"""Rule train: clean lists -> the finished model."""

import os

from epic100.base.log import rule_log
from epic100.base.stop import until_the_last_line
from epic100.segments.official_lists import read_class_names
from epic100.settings import Settings
from epic100.training.launch import launch

with until_the_last_line(), rule_log(snakemake.log[0]):
    settings = Settings.part(snakemake.params.settings)
    launch(
        settings.train.begun_with(
            snakemake.input.config, next(iter(snakemake.input.weights), None)
        ),
        model_path=snakemake.output.model,
        requested_gpus=snakemake.resources.get("gpu", 0),
        history_path=snakemake.output.history,
        results="results",
        video_root=snakemake.params.root,
        index_dir=os.path.dirname(snakemake.input.indexes[0]),
        num_verbs=settings.classes.verbs,
        num_nouns=settings.classes.nouns,
        names=read_class_names(**snakemake.params.names).by_task,
        modules=settings.modules.model_dump(),
    )
