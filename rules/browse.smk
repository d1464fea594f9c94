# A folder to look at in a browser: segments, predictions, clips, timelines. On request: no other
# rule needs it. Timelines that were made are shown, and kept up to date; none is made for it.

SHOWN = [split for split in CONFIG.browse.splits if split in ANNOTATIONS]


rule browse:
    input:
        **OFFICIAL_LISTS,
        **CLASS_LISTS,
        annotations=[ANNOTATIONS[split] for split in SHOWN],
        csvs=NAME_FILES["csvs"],
        sheet=SHEET,
        predictions=f"{HOME}/predictions/val.pt",
        dropped="results/clean/dropped.tsv",
        scans=expand("results/scan/{participant}.tsv", participant=PARTICIPANTS),
        clips="results/clips/val/list.txt",
        timelines=timelines_made,
    output:
        html=f"{HOME}/browse/index.html",
    log:
        f"{HOME}/logs/browse.log",
    conda:
        "../envs/epic100.yaml"
    resources:
        mem_mb=4000,
        runtime=15,
    params:
        settings=CONFIG.only(
            "browse.max_mb",
            "classes",
            "annotations.format",
            "videos.subset",
            "export.reduce",
        ),
        splits=SHOWN,
        lists=[*OFFICIAL_LISTS, *CLASS_LISTS],
        run=lambda wildcards: wildcards.get("run", CONFIG.run or ""),
    message:
        "Page to look at: {output.html}"
    script:
        "../workflow/scripts/browse.py"
