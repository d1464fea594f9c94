# One job per participant makes small copies of its videos, to read clips from.
#
# The copies are not outputs: Snakemake removes the outputs of a job before it runs again, but a
# copy of the same file with the same settings must be kept.


rule proxy:
    input:
        videos=files_of,
        scan_table="results/scan/{participant}.tsv",
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
        mem_mb=decoder_memory,
        # This is twice what one core needs, which copies 1080p at about three times real time. Ten
        # minutes are added for the rest.
        runtime=lambda wildcards: 10 + round(40 * hours_of(wildcards.participant)),
    params:
        root=unrecorded(VIDEO_PLACE),
        # Unlike `root`, this is recorded: for another folder, the copies are made again.
        copies=lambda wildcards: CLIP_ROOT,
        proxy=PROXY.stored(),
        limits=CONFIG.scan.stored(),
        rows=lambda wildcards: rows_of(wildcards.participant),
        total=lambda wildcards, input: len(input.videos),
    message:
        "Copies of {wildcards.participant}: {params.total} videos"
    script:
        "../workflow/scripts/proxy.py"
