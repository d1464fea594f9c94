"""One job a participant: small copies of its videos, to read clips from.

The copies are no outputs: Snakemake removes the outputs of a job before it runs again, and a copy
that was made for the same file and settings is kept.
"""


rule proxy:
    input:
        videos=files_of,
        scan="results/scan/{participant}.tsv",
        scan_index="results/scan/{participant}.index.npz",
    output:
        table="results/proxies/{participant}.tsv",
        index="results/proxies/{participant}.index.npz",
    log:
        "results/logs/proxy/{participant}.log",
    benchmark:
        "results/benchmarks/proxy/{participant}.tsv"
    conda:
        "../envs/epic100.yaml"
    threads: 4
    resources:
        mem_mb=lambda wildcards, threads: 1000 + 700 * threads,
        # 1080p is copied at some three times real time a core; ten minutes on top for the rest.
        runtime=lambda wildcards: 10 + round(40 * hours_of(wildcards.participant)),
    params:
        root=VIDEO_ROOT,
        copies=lambda wildcards: CLIP_ROOT,
        settings={key: value for key, value in PROXY.items() if key != "root"},
        limits={key: value for key, value in CONFIG["scan"].items() if key != "quick"},
        rows=lambda wildcards: rows_of(wildcards.participant),
    message:
        "Copies of {wildcards.participant}: {input.videos}"
    script:
        "../workflow/scripts/proxy.py"
