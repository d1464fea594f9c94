# These rules make a video file for each segment of a clean list, and the list of them that
# MMAction2 reads. No other rule needs them. The files are no outputs, since Snakemake would remove
# them before the job runs again, and a clip of the same frames is kept.


rule clips:
    input:
        segments="results/clean/{split}.txt",
        index=f"{CLIP_INDEXES}/{{participant}}.index.npz",
    output:
        table="results/clips/{split}/{participant}.tsv",
    log:
        "results/logs/clips/{split}/{participant}.log",
    benchmark:
        "results/benchmarks/clips/{split}/{participant}.tsv"
    conda:
        "../envs/epic100.yaml"
    threads: 4
    resources:
        mem_mb=decoder_memory,
        # A core needs 34 minutes for an hour of 1080p, 41 where all segments overlap, so 60 leave a
        # margin, even for one thread. Ten minutes are added for the rest.
        runtime=lambda wildcards: (
            10 + round(60 * hours_of(wildcards.participant, wildcards.split))
        ),
    params:
        function="epic100.proxy.precut:cut_participant",
        root=unrecorded(CLIP_ROOT),
        settings=CONFIG.only("clips", "scan"),
        rows=lambda wildcards: rows_of(wildcards.participant, wildcards.split),
    message:
        "Clips of {wildcards.participant}, {wildcards.split}"
    script:
        "../workflow/scripts/call.py"


rule clips_list:
    input:
        segments="results/clean/{split}.txt",
        pairs=PAIRS,
        tables=lambda wildcards: expand(
            "results/clips/{split}/{participant}.tsv",
            split=wildcards.split,
            participant=[name for name in PARTICIPANTS if videos_of(name, wildcards.split)],
        ),
    output:
        out="results/clips/{split}/list.txt",
    log:
        "results/logs/clips/{split}.log",
    retries: 0
    conda:
        "../envs/epic100.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        function="epic100.proxy.precut:write_list",
    message:
        "List of the clips of {wildcards.split}"
    script:
        "../workflow/scripts/call.py"
