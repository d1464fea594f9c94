"""Rule features: what a model or an encoder gives for a participant's whole videos."""

from epic100.base.log import rule_log
from epic100.features.participant import make_features, source_of
from epic100.features.settings import FeatureSettings
from epic100.prediction.predict import PredictSettings

with rule_log(snakemake.log[0]):
    params = snakemake.params
    settings = FeatureSettings(**params.settings)
    make_features(
        snakemake.wildcards.participant,
        snakemake.output.table,
        source_of(settings.encoder, snakemake.input.get("model") or None, params.modules),
        root=params.root,
        scan=snakemake.input.scan,
        index=snakemake.input.index,
        settings=settings,
        predict=PredictSettings(**params.predict),
        modules=params.modules,
        asked=snakemake.resources.get("gpu", 0),
    )
