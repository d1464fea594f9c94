# What the trained model sees in a whole video of the sheet. On request: no other rule needs it.
# For any other video file, `epic100 predict` does the same.


rule timeline:
    input:
        model=ONE_MODEL,
        scan=lambda wildcards: f"results/scan/{video_on_request(wildcards, 'timeline').participant_id}.tsv",
        index=lambda wildcards: (
            f"{CLIP_INDEXES}/{video_on_request(wildcards, 'timeline').participant_id}.index.npz"
        ),
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
        mem_mb=32000,
        runtime="4h",
        gpu=CONFIG.predict.gpus_to_ask,
    params:
        root=lambda wildcards, input: CLIP_ROOT,
        participant=lambda wildcards: video_on_request(wildcards, "timeline").participant_id,
        settings=CONFIG.only("timeline", "predict", "modules"),
    message:
        "Timeline of {wildcards.video} with {input.model}"
    script:
        "../workflow/scripts/timeline.py"
