"""Train the recognizer. Checkpoints live in results/work_dirs and are never outputs: Snakemake
removes the outputs of a job that fails, and a long run must outlive its failures."""

from epic100.segments.pairs import pairs_path

# Keys that are newer than trainings to be kept: at these values they are as if they were not there.
NEW_KEYS = {"heads": "pair", "sampling": None}


def settings_of_training(section):
    """The section without what `input.weights` says: a file's path alone starts no training anew."""
    about_weights = ("load_from", "load_from_sha256", "from_scratch")
    kept = {
        key: value
        for key, value in section.items()
        if key not in about_weights and (key not in NEW_KEYS or value != NEW_KEYS[key])
    }
    return kept | {"load_from": None}


rule train:
    input:
        segments=f"results/clean/{CONFIG['train']['split']}.txt",
        val="results/clean/val.txt",
        pairs=pairs_path("results", CONFIG["train"]["split"]),
        indexes=expand(f"{CLIP_INDEXES}/{{participant}}.index.npz", participant=PARTICIPANTS),
        config=existing_path(CONFIG["train"]["config"], HERE),
        weights=weights_to_train_from,
    output:
        model="results/model.pth",
        history="results/training.tsv",
    log:
        "results/logs/train.log",
    benchmark:
        "results/benchmarks/train.tsv"
    conda:
        "../envs/epic100.yaml"
    threads: 16
    resources:
        mem_mb=32000,
        runtime="12h",
        gpu=gpus_to_ask(CONFIG["train"]),
    params:
        root=lambda wildcards: CLIP_ROOT,
        settings=settings_of_training(CONFIG["train"]),
        classes=CONFIG["classes"],
        modules=CONFIG["modules"],
    message:
        f"Train on {{input.segments}} as {{input.config}} says, from {WEIGHTS_TEXT}"
    script:
        "../workflow/scripts/train.py"
