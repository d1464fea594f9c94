# These rules compute the official metrics on the validation split.


rule evaluate:
    input:
        **OFFICIAL_LISTS,
        predictions=f"{HOME}/predictions/val.pt",
        annotations=ANNOTATIONS["val"],
        pins=ANNOTATION_SHEET,
        segments="results/segments/val.txt",
        clean="results/clean/val.txt",
        model=MODEL,
        salvage="results/clean/salvage.tsv",
        dropped="results/clean/dropped.tsv",
    output:
        metrics=f"{HOME}/metrics.json",
        summary=table(f"{HOME}/summary.txt", "summary"),
    log:
        f"{HOME}/logs/evaluate.log",
    retries: 0
    conda:
        "../envs/epic100.yaml"
    resources:
        **FOR_TABLES,
    params:
        lists=list(OFFICIAL_LISTS),
        contents=lambda wildcards: contents_of("val", *OFFICIAL_LISTS),
        reduce=CONFIG.export.reduce,
        name=CONFIG.annotations.name,
        # A comparison of runs shows these settings.
        compared=compared_settings,
    message:
        "Official metrics from {input.predictions}"
    script:
        "../workflow/scripts/evaluate.py"


rule model_card:
    input:
        model=f"{HOME}/model.pth",
        metrics=f"{HOME}/metrics.json",
        dropped="results/clean/dropped.tsv",
        salvage="results/clean/salvage.tsv",
        annotations=ANNOTATIONS["train"],
        segments=CLEAN_LIST,
        pairs=PAIRS,
        weights=weights_to_train_from,
    output:
        card=f"{HOME}/model_card.md",
    log:
        f"{HOME}/logs/model_card.log",
    retries: 0
    conda:
        "../envs/epic100.yaml"
    resources:
        mem_mb=2000,
        runtime=5,
    params:
        contents=lambda wildcards: contents_of("train"),
        # The card lists these inputs, in these words, with their checksums.
        files={
            "annotations": "official train annotations",
            "segments": "clean list that was learned from",
            "pairs": "pair table",
            "weights": "start weights",
        },
    message:
        "Model card of {input.model}"
    script:
        "../workflow/scripts/model_card.py"
