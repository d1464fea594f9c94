# Result files become figures of the report, with a rule per topic. report.html.j2 has the captions.


rule figures_archive:
    input:
        **ANNOTATIONS,
        **CLASS_LISTS,
        sheet=SHEET,
        segments=expand("results/segments/{split}.txt", split=ANNOTATIONS),
        scans=expand("results/scan/{participant}.tsv", participant=PARTICIPANTS),
        dropped="results/clean/dropped.tsv",
    output:
        lengths=figure("data", "lengths"),
        archive=figure("damage", "archive"),
        close_up=figure("damage", "close_up"),
    log:
        "results/logs/figures/archive.log",
    retries: 0
    conda:
        "../envs/epic100.yaml"
    resources:
        **FOR_LISTS,
    params:
        splits=list(ANNOTATIONS),
        contents=lambda wildcards: contents_of("sheet", *ANNOTATIONS, *CLASS_LISTS),
        class_lists=list(CLASS_LISTS),
        reading=CONFIG.annotation_arguments,
    message:
        "Figures of the annotations and of the damage"
    script:
        "../workflow/scripts/figures_archive.py"


rule figures_training:
    input:
        history=f"{HOME}/training.tsv",
    output:
        training=figure("training", "training"),
    log:
        f"{HOME}/logs/figures/training.log",
    retries: 0
    conda:
        "../envs/epic100.yaml"
    resources:
        **FOR_LISTS,
    message:
        "Figures of the training"
    script:
        "../workflow/scripts/figures_training.py"


rule figures_results:
    input:
        **CLASS_LISTS,
        train_annotations=ANNOTATIONS["train"],
        val_annotations=ANNOTATIONS["val"],
        predictions=f"{HOME}/predictions/val.pt",
        segments="results/segments/val.txt",
        clean="results/clean/val.txt",
        indexes=expand(f"{CLIP_INDEXES}/{{participant}}.index.npz", participant=PARTICIPANTS),
    output:
        examples=f"{HOME}/figures/results/examples.json",
        classes=table(f"{HOME}/figures/results/per_class.tsv", "every class"),
    log:
        f"{HOME}/logs/figures/results.log",
    retries: 0
    conda:
        "../envs/epic100.yaml"
    resources:
        **FOR_TABLES,
    params:
        root=unrecorded(CLIP_ROOT),
        reduce=CONFIG.export.reduce,
        contents=lambda wildcards: contents_of("train", "val", *CLASS_LISTS),
        class_lists=list(CLASS_LISTS),
    message:
        "Classes and examples of the results"
    script:
        "../workflow/scripts/figures_results.py"
