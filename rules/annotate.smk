"""Official CSV -> segment list in frames of the file, by the sheet's rates."""


rule annotate:
    input:
        # The demo's CSVs and a lab's lists are not the official files, so they have no checksums.
        **(
            {}
            if MINIKITCHEN or CONFIG["annotations"]["format"] != "official"
            else {"pins": ANNOTATION_SHEET}
        ),
        annotations=annotations_of,
        sheet=SHEET,
    output:
        segments="results/segments/{split}.txt",
    log:
        "results/logs/annotate/{split}.log",
    retries: 0
    conda:
        "../envs/epic100.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        classes=CONFIG["classes"],
        format=CONFIG["annotations"]["format"],
        subset=CONFIG["videos"]["subset"],
    message:
        "Segments of {wildcards.split} from {input.annotations}"
    script:
        "../workflow/scripts/annotate.py"
