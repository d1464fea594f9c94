"""The official figures on the validation split."""


rule evaluate:
    input:
        **OFFICIAL_LISTS,
        predictions="results/predictions/val.pt",
        segments="results/segments/val.txt",
    output:
        metrics="results/metrics.json",
    log:
        "results/logs/evaluate.log",
    conda:
        "../envs/epic100.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=15,
    params:
        lists=list(OFFICIAL_LISTS),
        reduce=CONFIG["export"]["reduce"],
    message:
        "Official figures from {input.predictions}"
    script:
        "../workflow/scripts/evaluate.py"
