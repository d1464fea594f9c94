# A timeline has the actions that the trained model predicts along a complete video of the sheet. No
# other rule needs it. For any other video file, `epic100 predict` makes one.

BACKGROUND = f"{HOME}/background.json"


# The background model learns from gaps between segments of train; its threshold is chosen on val.
# The recognizer itself does not depend on it.
rule background:
    input:
        model=ONE_MODEL,
        train="results/segments/train.txt",
        val="results/segments/val.txt",
        clean_train="results/clean/train.txt",
        clean_val="results/clean/val.txt",
        scans=expand("results/scan/{participant}.tsv", participant=PARTICIPANTS),
        indexes=expand(f"{CLIP_INDEXES}/{{participant}}.index.npz", participant=PARTICIPANTS),
    output:
        background=BACKGROUND,
    log:
        f"{HOME}/logs/background.log",
    benchmark:
        f"{HOME}/benchmarks/background.tsv"
    conda:
        "../envs/epic100.yaml"
    threads: 16
    resources:
        **FOR_PREDICTIONS,
    params:
        **PREDICTING,
    message:
        "Learn from gaps of {input.train} where nothing happens"
    script:
        "../workflow/scripts/background.py"


rule timeline:
    input:
        model=ONE_MODEL,
        scan=lambda wildcards: f"results/scan/{participant_of(wildcards)}.tsv",
        index=lambda wildcards: f"{CLIP_INDEXES}/{participant_of(wildcards)}.index.npz",
        background=BACKGROUND if CONFIG.timeline.background else [],
    output:
        tsv=f"{HOME}/timeline/{{video}}.tsv",
        json=f"{HOME}/timeline/{{video}}.json",
        vtt=f"{HOME}/timeline/{{video}}.vtt",
        activitynet=f"{HOME}/timeline/{{video}}.activitynet.json",
    log:
        f"{HOME}/logs/timeline/{{video}}.log",
    benchmark:
        f"{HOME}/benchmarks/timeline/{{video}}.tsv"
    conda:
        "../envs/epic100.yaml"
    threads: 16
    resources:
        **FOR_PREDICTIONS,
    params:
        **PREDICTING,
        participant=participant_of,
        timeline=CONFIG.timeline.stored(),
    message:
        "Timeline of {wildcards.video} with {input.model}"
    script:
        "../workflow/scripts/timeline.py"


# The split is that of submission.pt, since the official tools evaluate both on one split.
rule detections:
    input:
        timelines=timelines_of(exported_split("pt")),
    output:
        detections=f"{HOME}/detections.json",
    log:
        f"{HOME}/logs/detections.log",
    retries: 0
    # The job takes seconds, which is not worth a place in a queue.
    localrule: True
    conda:
        "../envs/epic100.yaml"
    resources:
        **FOR_LISTS,
    params:
        export=CONFIG.export.stored(),
    message:
        "Detections of {output.detections}"
    script:
        "../workflow/scripts/detections.py"
