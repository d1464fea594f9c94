"""Rule features: complete videos of a participant -> features by a model or an encoder."""

from epic100.base.log import rule_log
from epic100.prediction.encoder import source_of
from epic100.prediction.features import make_features
from epic100.settings.prediction import FeatureSettings, PredictSettings
from epic100.settings.training import Modules

with rule_log(snakemake.log[0]):
    params = snakemake.params
    settings = FeatureSettings(**params.features)
    predict = PredictSettings(**params.predict)
    modules = Modules(**params.modules).model_dump()
    folder_or_model = params.encoder if settings.encoder == "hf" else snakemake.input.get("model")
    make_features(
        snakemake.wildcards.participant,
        snakemake.output.table,
        source_of(settings.encoder, folder_or_model or None, modules),
        root=params.root,
        scan=snakemake.input.scan,
        index=snakemake.input.index,
        settings=settings,
        predict=predict.model_copy(update={"encoder": params.encoder}),
        modules=modules,
        requested_gpus=snakemake.resources.get("gpu", 0),
    )
