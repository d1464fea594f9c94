# These rules compare videos and annotations with the checksums in their sheets. The scan computes
# the checksums of the videos.


rule videos_ok:
    input:
        tables=expand("results/scan/{participant}.tsv", participant=CHOSEN),
    output:
        ok="results/videos.ok",
    log:
        "results/logs/videos_ok.log",
    retries: 0
    conda:
        "../envs/epic100.yaml"
    resources:
        **FOR_MINUTES,
    params:
        # With this parameter, the files are compared again when a row of the sheet changes.
        rows=[vars(video) for video in VIDEOS if video.participant_id in CHOSEN],
    message:
        "Check that all videos are there and complete"
    script:
        "../workflow/scripts/videos_ok.py"


rule annotations_ok:
    input:
        # The job waits for these files. The script reads them from `params.files`.
        **ANNOTATION_FILES,
        sheet=ANNOTATION_SHEET,
    output:
        ok="results/annotations.ok",
    log:
        "results/logs/annotations_ok.log",
    retries: 0
    conda:
        "../envs/epic100.yaml"
    resources:
        **FOR_MINUTES,
    params:
        contents=lambda wildcards: contents_of(*ANNOTATION_FILES),
        files=ANNOTATION_FILES,
    message:
        "Check that the annotations are the pinned ones"
    script:
        "../workflow/scripts/annotations_ok.py"
