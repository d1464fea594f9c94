"""Rule background: gaps between segments -> a model of scores where nothing happens."""

from epic100.base.log import rule_log
from epic100.settings import Settings
from epic100.timeline.model import ModelInUse, learn_background

with rule_log(snakemake.log[0]):
    given, params = snakemake.input, snakemake.params
    settings = Settings.part(params.settings)
    learn_background(
        ModelInUse(given.model),
        snakemake.output.background,
        segments={"train": given.train, "val": given.val},
        clean={"train": given.clean_train, "val": given.clean_val},
        root=params.root,
        scans=given.scans,
        indexes=given.indexes,
        predict=settings.predict.model_copy(update={"encoder": params.encoder}),
        modules=settings.modules.model_dump(),
        requested_gpus=snakemake.resources.get("gpu", 0),
    )
