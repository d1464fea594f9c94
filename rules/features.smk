# These rules make features of complete videos, in the form that ActionFormer reads. No other rule
# needs them.
#
# The `.npz` are no outputs of the job that makes them: Snakemake would remove them all before it
# makes one again. The job keeps the files that are still right.

ENCODER = CONFIG.features.encoder
# These files give the features. The job decides whether other content makes other features.
ENCODER_FILES = {
    "model": ONE_MODEL,
    "hf": files_of_folder,
}.get(ENCODER, [])


# The job writes a file of features for each video in the folder of the table.
rule features:
    input:
        model=ENCODER_FILES,
        scan="results/scan/{participant}.tsv",
        index=f"{CLIP_INDEXES}/{{participant}}.index.npz",
    output:
        table=f"{FEATURES}/{{participant}}.tsv",
    log:
        f"{HOME}/logs/features/{{participant}}.log",
    benchmark:
        f"{HOME}/benchmarks/features/{{participant}}.tsv"
    conda:
        "../envs/epic100.yaml"
    threads: 16
    resources:
        mem_mb=32000,
        runtime="12h",
        gpu=CONFIG.predict.gpus_to_ask,
    params:
        root=unrecorded(CLIP_ROOT),
        encoder=unrecorded(CONFIG.features.path or MOVED_ENCODER),
        features=CONFIG.features.stored(),
        predict=CONFIG.predict.stored(),
        modules=CONFIG.modules.stored(),
    message:
        f"Features of {{wildcards.participant}}'s videos, by {ENCODER}"
    script:
        "../workflow/scripts/features.py"


if not SWEEP:

    rule all_features:
        input:
            expand(f"{FEATURES}/{{participant}}.tsv", participant=PARTICIPANTS),
        localrule: True
        message:
            "The features of all participants are complete"
