# This trains the recognizer. Checkpoints are in results/work_dirs and are never outputs: Snakemake
# removes the outputs of a job that fails, but the next attempt must resume from the checkpoints.


rule train:
    input:
        segments=CLEAN_LIST,
        val="results/clean/val.txt",
        pairs=PAIRS,
        indexes=expand(f"{CLIP_INDEXES}/{{participant}}.index.npz", participant=PARTICIPANTS),
        config=lambda wildcards: shipped(config_of(wildcards).train.config),
        weights=weights_to_train_from,
        encoder=encoder_files,
    output:
        model=f"{HOME}/model.pth",
        history=f"{HOME}/training.tsv",
    log:
        f"{HOME}/logs/train.log",
    benchmark:
        f"{HOME}/benchmarks/train.tsv"
    conda:
        "../envs/epic100.yaml"
    threads: 16
    resources:
        **CONFIG.train.resources_of_nodes,
        mem_mb=32000,
        runtime="12h",
        gpu=CONFIG.train.gpus_to_ask,
    params:
        root=unrecorded(CLIP_ROOT),
        train=lambda wildcards: config_of(wildcards).train.stored(),
        classes=CONFIG.classes.model_dump(),
        modules=CONFIG.modules.stored(),
        code=code_of,
        # New names of classes alone must not train again.
        names=unrecorded(NAME_FILES),
    message:
        f"Train on {{input.segments}} as {{input.config}} says, from {WEIGHTS_TEXT}"
    script:
        "../workflow/scripts/train.py"
