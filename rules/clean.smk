# Segments and scans become clean lists, the pair table, and a reason for every dropped segment.


rule clean:
    input:
        **{f"{split}_segments": f"results/segments/{split}.txt" for split in ANNOTATIONS},
        scans=expand("results/scan/{participant}.tsv", participant=PARTICIPANTS),
        indexes=expand("results/scan/{participant}.index.npz", participant=PARTICIPANTS),
        sheet=SHEET,
    output:
        **{split: f"results/clean/{split}.txt" for split in ANNOTATIONS},
        pairs="results/clean/pairs.tsv",
        salvage="results/clean/salvage.tsv",
        dropped=table("results/clean/dropped.tsv", "dropped segments"),
    log:
        "results/logs/clean.log",
    retries: 0
    conda:
        "../envs/epic100.yaml"
    resources:
        **FOR_TABLES,
    params:
        policy=CONFIG.clean.policy,
        participants=CONFIG.participants.stored(),
        accept=CONFIG.videos.accept,
        subset=CONFIG.videos.subset,
        splits=list(ANNOTATIONS),
        contents=lambda wildcards: contents_of("sheet"),
        absent=[name for name in CHOSEN if name not in PARTICIPANTS],
    message:
        f"Clean lists, policy {CONFIG.clean.policy}"
    script:
        "../workflow/scripts/clean.py"


rule trainval:
    input:
        train="results/clean/train.txt",
        val="results/clean/val.txt",
    output:
        segments="results/clean/trainval.txt",
        pairs="results/clean/trainval_pairs.tsv",
    log:
        "results/logs/trainval.log",
    retries: 0
    conda:
        "../envs/epic100.yaml"
    resources:
        **FOR_LISTS,
    message:
        "Train and val as one list, with the pair table of both"
    script:
        "../workflow/scripts/trainval.py"
