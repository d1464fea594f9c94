"""Rule video_features: the features of one video are there, whole, and newer than the table."""

from epic100.base.log import rule_log
from epic100.features.participant import confirm_features

with rule_log(snakemake.log[0]):
    confirm_features(snakemake.output.features, snakemake.input.table)
