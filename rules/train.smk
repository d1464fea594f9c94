"""Train the recognizer. Checkpoints are in results/work_dirs and are never outputs: Snakemake
removes the outputs of a job that fails, but a long training must survive its failures."""

from epic100.segments.pairs import pairs_path


rule train:
    input:
        segments=f"results/clean/{CONFIG['train']['split']}.txt",
        val="results/clean/val.txt",
        pairs=pairs_path("results", CONFIG["train"]["split"]),
        indexes=expand(f"{CLIP_INDEXES}/{{participant}}.index.npz", participant=PARTICIPANTS),
        config=existing_path(CONFIG["train"]["config"], HERE),
        weights=weights_to_train_from,
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
        **resources_of_nodes(CONFIG["train"]),
        mem_mb=32000,
        runtime="12h",
        gpu=gpus_to_ask(CONFIG["train"]),
    params:
        root=lambda wildcards: CLIP_ROOT,
        settings=settings_of_training,
        classes=CONFIG["classes"],
        # Of `input`, so that Snakemake does not record it: new names alone must not train again.
        names=lambda wildcards, input: NAME_FILES,
        modules=CONFIG["modules"],
    message:
        f"Train on {{input.segments}} as {{input.config}} says, from {WEIGHTS_TEXT}"
    script:
        "../workflow/scripts/train.py"
