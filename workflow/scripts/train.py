"""Rule train: clean lists -> the finished model."""

import os

from epic100.base.log import rule_log
from epic100.base.stop import until_the_last_line
from epic100.data.official_lists import read_class_names
from epic100.settings.training import Modules, TrainSettings
from epic100.training.train import train

with until_the_last_line(), rule_log(snakemake.log[0]):
    params = snakemake.params
    train(
        TrainSettings(**params.train).begun_with(
            snakemake.input.config, next(iter(snakemake.input.weights), None)
        ),
        model_path=snakemake.output.model,
        requested_gpus=snakemake.resources.get("gpu", 0),
        history_path=snakemake.output.history,
        results="results",
        video_root=params.root,
        index_dir=os.path.dirname(snakemake.input.indexes[0]),
        num_verbs=params.classes["verbs"],
        num_nouns=params.classes["nouns"],
        names=read_class_names(**params.names).by_task,
        modules=Modules(**params.modules).model_dump(),
    )
