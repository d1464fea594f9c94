"""Pair scores -> a complete submission, every narration_id of the split once."""


rule export:
    input:
        predictions=f"results/predictions/{CONFIG['export']['split']}.pt",
        segments=f"results/segments/{CONFIG['export']['split']}.txt",
    output:
        pt="results/submission.pt",
        zip="results/submission.zip",
    log:
        "results/logs/export.log",
    benchmark:
        "results/benchmarks/export.tsv"
    conda:
        "../envs/epic100.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=15,
    params:
        settings=CONFIG["export"],
    message:
        "Submission of {params.settings[split]}"
    script:
        "../workflow/scripts/export.py"
