# A probe is the model of this run: it is trained on stored tokens, in minutes. What comes after
# predictions is as for any model.


rule probe_train:
    input:
        segments=CLEAN_LIST,
        val="results/clean/val.txt",
        pairs=PAIRS,
        tokens=expand(f"{FEATURES}/{{split}}.tokens.json", split=("train", "val")),
    output:
        model=f"{HOME}/model.pth",
        history=f"{HOME}/training.tsv",
        trials=f"{HOME}/trials.tsv",
    log:
        f"{HOME}/logs/probe_train.log",
    benchmark:
        f"{HOME}/benchmarks/probe_train.tsv"
    conda:
        "../envs/epic100.yaml"
    threads: 16
    resources:
        mem_mb=16000,
        runtime="2h",
        gpu=int(PROBE is not None and PROBE.device == "cuda"),
    params:
        settings=CONFIG.only("probe", "train.split", "classes"),
        # New names of classes alone must not train again.
        names=unrecorded(NAME_FILES),
        encoder=unrecorded(CONFIG.features.path),
    message:
        f"Train a probe on {{input.segments}} with the tokens in {FEATURES}"
    script:
        "../workflow/scripts/probe_train.py"


rule probe_predict:
    input:
        model_path=f"{HOME}/model.pth",
        segments="results/clean/{split}.txt",
        # The file lists the stored tokens. The function takes a list of such files.
        indexes=[f"{FEATURES}/{{split}}.tokens.json"],
    output:
        out=f"{HOME}/predictions/{{split}}.pt",
    log:
        f"{HOME}/logs/probe_predict/{{split}}.log",
    benchmark:
        f"{HOME}/benchmarks/probe_predict/{{split}}.tsv"
    conda:
        "../envs/epic100.yaml"
    threads: 4
    resources:
        mem_mb=8000,
        runtime=30,
    params:
        function="epic100.features.probe:predict_probe",
        split="{split}",
    message:
        "Predict {wildcards.split} with the probe {input.model_path}"
    script:
        "../workflow/scripts/call.py"
