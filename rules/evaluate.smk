"""The official metrics on the validation split."""


rule evaluate:
    input:
        **OFFICIAL_LISTS,
        predictions="results/predictions/val.pt",
        segments="results/segments/val.txt",
        clean="results/clean/val.txt",
        model=MODEL,
    output:
        metrics="results/metrics.json",
    log:
        "results/logs/evaluate.log",
    retries: 0
    conda:
        "../envs/epic100.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=15,
    params:
        lists=list(OFFICIAL_LISTS),
        reduce=CONFIG["export"]["reduce"],
        backoff=CONFIG["export"]["backoff"],
    message:
        "Official figures from {input.predictions}"
    script:
        "../workflow/scripts/evaluate.py"


rule summary:
    input:
        salvage="results/clean/salvage.tsv",
        dropped="results/clean/dropped.tsv",
        metrics="results/metrics.json",
    output:
        text=report(
            "results/summary.txt",
            category="6 Tables",
            caption="../workflow/report/summary.rst",
            labels={"table": "summary"},
        ),
    log:
        "results/logs/summary.log",
    retries: 0
    conda:
        "../envs/epic100.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=5,
    message:
        "Summary of {input}"
    script:
        "../workflow/scripts/summary.py"


# Only for a model that was trained here: for any other there is no train list to describe.
rule model_card:
    input:
        model="results/model.pth",
        metrics="results/metrics.json",
        dropped="results/clean/dropped.tsv",
        annotations=ANNOTATIONS["train"],
        segments=f"results/clean/{CONFIG['train']['split']}.txt",
        pairs=f"results/clean/{'trainval_' if CONFIG['train']['split'] == 'trainval' else ''}pairs.tsv",
        weights=weights_to_train_from,
    output:
        card="results/model_card.md",
        metafile="results/metafile.yml",
    log:
        "results/logs/model_card.log",
    retries: 0
    conda:
        "../envs/epic100.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=5,
    params:
        files={
            "annotations": "official train annotations",
            "segments": "clean list that was learned from",
            "pairs": "pair table",
            **({"weights": "start weights"} if WEIGHTS else {}),
        },
    message:
        "Model card of {input.model}"
    script:
        "../workflow/scripts/model_card.py"
