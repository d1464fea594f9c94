# EPIC-KITCHENS-100 action recognition: official CSVs and full-length videos become a trained X3D-S,
# and its Codabench submission. This file has only targets and includes; each stage is a file in
# rules/.
from snakemake.utils import min_version

# This is the lowest version that the tests of rules run on (`make test-lowest`).
min_version("9.23")


include: "rules/common.smk"
include: "rules/videos.smk"
include: "rules/inputs.smk"
include: "rules/run.smk"
include: "rules/weights.smk"
include: "rules/verify.smk"
include: "rules/annotate.smk"
include: "rules/scan.smk"
include: "rules/clean.smk"
include: "rules/features.smk"
include: "rules/export.smk"
include: "rules/evaluate.smk"
include: "rules/figures.smk"
include: "rules/report.smk"
include: "rules/compare.smk"
include: "rules/browse.smk"
include: "rules/timeline.smk"
include: "rules/train.smk"
include: "rules/predict.smk"


# With `videos: proxy:`, clips are read from small copies.
if PROXY:

    include: "rules/proxy.smk"


# Only the demo makes videos, and only `download: true` fetches them. Otherwise no rule writes one.
if MINIKITCHEN:

    include: "rules/demo.smk"


if DOWNLOAD or DOWNLOAD_ANNOTATIONS:

    include: "rules/download.smk"


RESULTS_OF_RUN = [
    f"{HOME}/submission.pt",
    f"{HOME}/submission.zip",
    f"{HOME}/metrics.json",
    f"{HOME}/report.html",
    f"{HOME}/summary.txt",
    *([f"{HOME}/model_card.md"] if TRAINED_HERE else []),
]


rule all:
    default_target: True
    input:
        *(["results/compare.html"] if SWEEP else RESULTS_OF_RUN),
        *(["results/videos.ok"] if DOWNLOAD else []),
        *(["results/annotations.ok"] if DOWNLOAD_ANNOTATIONS else []),
    localrule: True
    message:
        "The submission and its figures are complete"


include: "rules/targets.smk"
