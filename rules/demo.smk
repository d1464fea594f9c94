# The first jobs of the DAG make the mini kitchen: the demo's annotations and videos.


rule minikitchen_annotations:
    input:
        sheet=SHEET,
    output:
        **ANNOTATIONS,
        **OFFICIAL_LISTS,
    log:
        "results/logs/minikitchen/annotations.log",
    retries: 0
    conda:
        "../envs/epic100.yaml"
    resources:
        **FOR_MINUTES,
    params:
        rows=[vars(video) for video in VIDEOS],
        folder=lambda wildcards, output: os.path.dirname(output.train),
        seed=MINIKITCHEN.seed,
        level=MINIKITCHEN.level,
    message:
        "Annotations of the mini kitchen"
    script:
        "../workflow/scripts/minikitchen_annotations.py"


rule minikitchen_video:
    output:
        film=f"{VIDEO_ROOT}/{{participant}}/{{video_id}}.MP4",
    log:
        "results/logs/minikitchen/{participant}.{video_id}.log",
    retries: 0
    conda:
        "../envs/epic100.yaml"
    resources:
        **FOR_MINUTES,
    params:
        row=lambda wildcards: vars(VIDEO_OF_ID[wildcards.video_id]),
        seed=MINIKITCHEN.seed,
        level=MINIKITCHEN.level,
        damage=lambda wildcards: MINIKITCHEN.damage.get(wildcards.video_id),
    message:
        "Film {wildcards.video_id} of the mini kitchen"
    script:
        "../workflow/scripts/minikitchen_video.py"
