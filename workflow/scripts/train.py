"""Rule train: clean lists -> the finished model."""

import os

from epic100.base.log import rule_log
from epic100.segments.class_names import read_class_names
from epic100.training.launch import launch
from epic100.training.settings import TrainSettings

with rule_log(snakemake.log[0]):
    launch(
        TrainSettings.from_section(
            {
                **snakemake.params.settings,
                "config": snakemake.input.config,
                "load_from": next(iter(snakemake.input.weights), None),
            }
        ),
        snakemake.output.model,
        asked=snakemake.resources.get("gpu", 0),
        history_path=snakemake.output.history,
        results="results",
        video_root=snakemake.params.root,
        index_dir=os.path.dirname(snakemake.input.indexes[0]),
        num_verbs=snakemake.params.classes["verbs"],
        num_nouns=snakemake.params.classes["nouns"],
        names=read_class_names(**snakemake.params.names).by_task,
        modules=snakemake.params.modules,
    )
