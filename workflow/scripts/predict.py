"""Rule predict: the clean segments of a split -> pair scores by the trained model."""

import os

from epic100.base.log import rule_log
from epic100.prediction.predict import predict
from epic100.settings.prediction import PredictSettings
from epic100.settings.training import Modules

with rule_log(snakemake.log[0]):
    params = snakemake.params
    predict(
        snakemake.input.model,
        snakemake.input.segments,
        snakemake.output.predictions,
        split=snakemake.wildcards.split,
        video_root=params.root,
        index_dir=os.path.dirname(snakemake.input.indexes[0]),
        requested_gpus=snakemake.resources.get("gpu", 0),
        settings=PredictSettings(**params.predict | {"encoder": params.encoder}),
        modules=Modules(**params.modules).model_dump(),
    )
