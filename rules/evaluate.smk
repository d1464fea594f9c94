"""The official figures on the validation split."""


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
