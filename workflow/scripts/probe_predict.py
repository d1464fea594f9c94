"""Rule probe_predict: stored features and a probe -> predictions of a split."""

from epic100.base.log import rule_log
from epic100.features.probe_train import predict_probe

with rule_log(snakemake.log[0]):
    predict_probe(
        snakemake.input.model,
        snakemake.input.segments,
        snakemake.output.predictions,
        split=snakemake.wildcards.split,
        tables=snakemake.input.features,
    )
