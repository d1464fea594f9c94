# The mini kitchen: the demo's annotations and videos, made as the first jobs of the DAG.


rule minikitchen_annotations:
    input:
        sheet=SHEET,
    output:
        **ANNOTATIONS,
        **OFFICIAL_LISTS,
    log:
        "results/logs/minikitchen/annotations.log",
    conda:
        "../envs/epic100.yaml"
    resources:
        mem_mb=1000,
        runtime=5,
    params:
        settings=CONFIG.only("minikitchen.seed", "minikitchen.level"),
    message:
        "Annotations of the mini kitchen"
    script:
        "../workflow/scripts/minikitchen_annotations.py"


rule minikitchen_video:
    output:
        video=f"{VIDEO_ROOT}/{{participant}}/{{video_id}}.MP4",
    log:
        "results/logs/minikitchen/{participant}.{video_id}.log",
    conda:
        "../envs/epic100.yaml"
    resources:
        mem_mb=1000,
        runtime=5,
    params:
        settings=CONFIG.only("minikitchen.seed", "minikitchen.level"),
        video=lambda wildcards: vars(video_at(wildcards)),
        damage=lambda wildcards: MINIKITCHEN.damage.get(wildcards.video_id),
    message:
        "Film {wildcards.video_id} of the mini kitchen"
    script:
        "../workflow/scripts/minikitchen_video.py"
