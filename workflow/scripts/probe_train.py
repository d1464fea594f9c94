"""Rule probe_train: stored tokens -> the finished probe."""

import torch

from epic100.base.log import rule_log
from epic100.features.probe import train_probe
from epic100.segments.official_lists import read_class_names
from epic100.settings import Settings

with rule_log(snakemake.log[0]):
    torch.set_num_threads(snakemake.threads)
    params = snakemake.params
    settings = Settings.part(params.settings)
    train_probe(
        settings.probe,
        snakemake.output.model,
        snakemake.output.history,
        snakemake.output.trials,
        split=settings.train.split,
        segments=snakemake.input.segments,
        val=snakemake.input.val,
        pairs=snakemake.input.pairs,
        indexes=snakemake.input.tokens,
        classes=(settings.classes.verbs, settings.classes.nouns),
        folder=params.encoder,
        names=read_class_names(**params.names).by_task,
    )
