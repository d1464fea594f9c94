# Compare videos and annotations with the checksums in their sheets. Writes no video.


rule verify_videos:
    input:
        videos=files_of,
    output:
        table="results/videos/{participant}.tsv",
    log:
        "results/logs/verify/{participant}.log",
    benchmark:
        "results/benchmarks/verify/{participant}.tsv"
    conda:
        "../envs/epic100.yaml"
    threads: 2
    resources:
        mem_mb=1000,
        # Five minutes per hour of video: enough for 10 GB per hour, read at 35 MB/s.
        runtime=lambda wildcards: 10 + round(5 * hours_of(wildcards.participant)),
    params:
        function="epic100.download.videos:verify_videos",
        root=lambda wildcards, input: VIDEO_PLACE,
        rows=lambda wildcards: rows_of(wildcards.participant),
        states=states_of,
        receipts=RECEIPTS,
    message:
        "Verify the videos of {wildcards.participant}"
    script:
        "../workflow/scripts/call.py"


rule videos_ok:
    input:
        tables=expand("results/videos/{participant}.tsv", participant=CHOSEN),
    output:
        out="results/videos.ok",
    log:
        "results/logs/videos_ok.log",
    conda:
        "../envs/epic100.yaml"
    resources:
        mem_mb=1000,
        runtime=5,
    params:
        function="epic100.download.videos:write_videos_ok",
    message:
        "Whether all videos are there and whole"
    script:
        "../workflow/scripts/call.py"


rule annotations_ok:
    input:
        **ANNOTATION_FILES,
        sheet=ANNOTATION_SHEET,
    output:
        out="results/annotations.ok",
    log:
        "results/logs/annotations_ok.log",
    conda:
        "../envs/epic100.yaml"
    resources:
        mem_mb=1000,
        runtime=5,
    params:
        function="epic100.download.annotations:verify_annotations",
        files=ANNOTATION_FILES,
    message:
        "Whether the annotations are the pinned ones"
    script:
        "../workflow/scripts/call.py"
