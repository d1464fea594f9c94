"""Rule tokens: the segments of a split -> tokens by an encoder."""

import os

from epic100.base.log import rule_log
from epic100.features.tokens import make_tokens
from epic100.prediction.encoder import source_of
from epic100.settings import Settings

with rule_log(snakemake.log[0]):
    params, given = snakemake.params, snakemake.input
    settings = Settings.part(params.settings)
    modules = settings.modules.model_dump()
    make_tokens(
        given.segments,
        snakemake.output.index,
        source_of(settings.features.encoder, params.encoder or given.get("model") or None, modules),
        video_root=params.root,
        index_dir=os.path.dirname(given.indexes[0]),
        settings=settings.features,
        predict=settings.predict,
        modules=modules,
        requested_gpus=snakemake.resources.get("gpu", 0),
    )
