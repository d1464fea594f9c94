"""The trained model over the clean segments of a split."""


rule predict:
    input:
        model=MODEL,
        segments="results/clean/{split}.txt",
        indexes=expand(f"{CLIP_INDEXES}/{{participant}}.index.npz", participant=PARTICIPANTS),
    output:
        predictions="results/predictions/{split}.pt",
    log:
        "results/logs/predict/{split}.log",
    benchmark:
        "results/benchmarks/predict/{split}.tsv"
    conda:
        "../envs/epic100.yaml"
    threads: 16
    resources:
        mem_mb=32000,
        runtime="4h",
        gpu=gpus_to_ask(CONFIG["predict"]),
    params:
        root=lambda wildcards: CLIP_ROOT,
        settings={key: value for key, value in CONFIG["predict"].items() if key != "model"},
        modules=CONFIG["modules"],
    message:
        "Predict {wildcards.split} with {input.model}"
    script:
        "../workflow/scripts/predict.py"
