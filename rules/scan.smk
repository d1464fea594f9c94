# One job per participant decodes every frame of every video, and reports what is damaged.
#
# Videos on disk are inputs, so a replaced file causes a new scan of its participant only.

from epic100.settings.data import SCAN_VERSION


rule scan:
    input:
        videos=files_of,
    output:
        table=table("results/scan/{participant}.tsv", "scan of {participant}"),
        index="results/scan/{participant}.index.npz",
    log:
        "results/logs/scan/{participant}.log",
    benchmark:
        "results/benchmarks/scan/{participant}.tsv"
    conda:
        "../envs/epic100.yaml"
    threads: 4
    resources:
        mem_mb=decoder_memory,
        # An hour of video gets 30 minutes. This is more than twice what one core needs, which
        # decodes 1080p at about five times real time. Ten minutes are added for the rest.
        runtime=lambda wildcards, attempt: (10 + round(30 * hours_of(wildcards.participant)))
        * attempt,
    params:
        # Snakemake records the inputs. Their names contain the root, so it is not recorded again.
        root=unrecorded(VIDEO_PLACE),
        limits=CONFIG.scan.stored(),
        # The results of an earlier version of the scan are made again.
        version=SCAN_VERSION,
        rows=lambda wildcards: rows_of(wildcards.participant),
        # If the size or the time of a file changes, Snakemake scans again.
        states=states_of,
        total=lambda wildcards, input: len(input.videos),
    message:
        "Scan of {wildcards.participant}: {params.total} videos"
    script:
        "../workflow/scripts/scan.py"
