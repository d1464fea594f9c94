# The report is one HTML file that needs no network.

# The names are as in the report's template. A model that was made elsewhere has no training.
FIGURES = {
    "lengths": figure("data", "lengths"),
    **{name: figure("damage", name) for name in ("archive", "close_up")},
}
TRAINING_FILES = {}
if TRAINED_HERE:
    FIGURES["training"] = figure("training", "training")
    # The card is made before the report, which links it.
    TRAINING_FILES = {"history": f"{HOME}/training.tsv", "card": f"{HOME}/model_card.md"}

# The sections of the config that the report shows.
SHOWN_SETTINGS = {
    "classes",
    "participants",
    "clean",
    "train",
    "features",
    "predict",
    "export",
}


rule report:
    input:
        **FIGURES,
        **OFFICIAL_LISTS,
        **TRAINING_FILES,
        metrics=f"{HOME}/metrics.json",
        salvage="results/clean/salvage.tsv",
        reasons="results/clean/dropped.tsv",
        examples=rules.figures_results.output.examples,
        classes=rules.figures_results.output.classes,
        submission=f"{HOME}/submission.zip",
    output:
        html=f"{HOME}/report.html",
    log:
        f"{HOME}/logs/report.log",
    retries: 0
    # The job takes seconds, which is not worth a place in a queue.
    localrule: True
    conda:
        "../envs/epic100.yaml"
    resources:
        **FOR_LISTS,
    params:
        figures=list(FIGURES),
        contents=lambda wildcards: contents_of(*OFFICIAL_LISTS),
        policy=CONFIG.clean.policy,
        settings=lambda wildcards: config_of(wildcards).model_dump(
            mode="json", by_alias=True, exclude_defaults=True, include=SHOWN_SETTINGS
        ),
        run=lambda wildcards: wildcards.get("run", CONFIG.run or ""),
    message:
        "Report: {output.html}"
    script:
        "../workflow/scripts/report.py"
