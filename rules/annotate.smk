# An official CSV becomes a segment list, in frames of the video files, by the sheet's frame rates.


rule annotate:
    input:
        annotations=annotations_of,
        sheet=SHEET,
    output:
        segments="results/segments/{split}.txt",
    log:
        "results/logs/annotate/{split}.log",
    retries: 0
    conda:
        "../envs/epic100.yaml"
    resources:
        **FOR_LISTS,
    params:
        reading=CONFIG.annotation_arguments,
        contents=lambda wildcards: contents_of(wildcards.split, "sheet"),
    message:
        "Segments of {wildcards.split} from {input.annotations}"
    script:
        "../workflow/scripts/annotate.py"
