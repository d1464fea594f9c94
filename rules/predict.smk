# One or several trained models predict the clean segments of a split.

# With several models, each has its own file, and these are averaged.
MODEL_FOLDER = "models/{number}/" if MODELS else ""


if MODELS:

    rule average:
        input:
            parts=expand(
                f"{HOME}/predictions/models/{{number}}/{{{{split}}}}.pt",
                number=range(1, len(MODELS) + 1),
            ),
            models=MODELS,
        output:
            predictions=f"{HOME}/predictions/{{split}}.pt",
        log:
            f"{HOME}/logs/predict/average.{{split}}.log",
        retries: 0
        conda:
            "../envs/epic100.yaml"
        resources:
            mem_mb=8000,
            runtime=15,
        message:
            "Average {input.parts}"
        script:
            "../workflow/scripts/average.py"


rule predict:
    input:
        # With several models, {number} counts them.
        model=(lambda wildcards: MODELS[int(wildcards.number) - 1]) if MODELS else MODEL,
        segments="results/clean/{split}.txt",
        indexes=expand(f"{CLIP_INDEXES}/{{participant}}.index.npz", participant=PARTICIPANTS),
    output:
        predictions=f"{HOME}/predictions/{MODEL_FOLDER}{{split}}.pt",
    log:
        f"{HOME}/logs/predict/{MODEL_FOLDER}{{split}}.log",
    benchmark:
        f"{HOME}/benchmarks/predict/{MODEL_FOLDER}{{split}}.tsv"
    conda:
        "../envs/epic100.yaml"
    threads: 16
    resources:
        **FOR_PREDICTIONS,
    params:
        **PREDICTING,
    message:
        "Predict {wildcards.split} with {input.model}"
    script:
        "../workflow/scripts/predict.py"
