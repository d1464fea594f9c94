"""Rule background: gaps between segments -> a model of scores where nothing happens."""

from epic100.base.log import rule_log
from epic100.prediction.timeline_model import ModelInUse, learn_background
from epic100.settings.prediction import PredictSettings
from epic100.settings.training import Modules

with rule_log(snakemake.log[0]):
    given, params = snakemake.input, snakemake.params
    learn_background(
        ModelInUse(given.model),
        snakemake.output.background,
        segments={"train": given.train, "val": given.val},
        clean={"train": given.clean_train, "val": given.clean_val},
        root=params.root,
        scans=given.scans,
        indexes=given.indexes,
        predict=PredictSettings(**params.predict | {"encoder": params.encoder}),
        modules=Modules(**params.modules).model_dump(),
        requested_gpus=snakemake.resources.get("gpu", 0),
    )
