# This makes a page for a browser: segments, predictions, clips, timelines. No other rule needs it.
# It shows the timelines that exist, and makes only outdated ones again. With `browse: runs:` the
# page is of these runs, and is in the folder of none of them.

from epic100.settings.config import DEFAULT

SHOWN_SPLITS = [split for split in CONFIG.browse.splits if split in ANNOTATIONS]
# The runs on the page, the folder of each, and whether each is of this config. The three lists are
# in the same order. Without `browse: runs:`, the only run is that of this config.
SHOWN_RUNS = [None if run == DEFAULT else run for run in CONFIG.browse.runs]
SHOWN_HOMES = [home_of(run) for run in SHOWN_RUNS] or [HOME]
SHOWN_ARE_OWN = [run in (SWEEP or [CONFIG.run]) for run in SHOWN_RUNS] or [True]


# The clips are not outputs: Snakemake would remove them before the job runs again, but a clip of the
# same frames is kept.
rule browse_clips:
    input:
        segments="results/clean/val.txt",
        index=f"{CLIP_INDEXES}/{{participant}}.index.npz",
    output:
        table="results/browse_clips/{participant}.tsv",
    log:
        "results/logs/browse_clips/{participant}.log",
    benchmark:
        "results/benchmarks/browse_clips/{participant}.tsv"
    conda:
        "../envs/epic100.yaml"
    threads: 4
    resources:
        mem_mb=decoder_memory,
        # A core needs 20 minutes for an hour of 1080p, 37 if segments cover all of it twice, so 60
        # leave a margin, even for one thread. Ten minutes are added for the rest.
        runtime=lambda wildcards: 10 + round(60 * hours_of(wildcards.participant, "val")),
    params:
        root=unrecorded(CLIP_ROOT),
        limits=CONFIG.scan.stored(),
        rows=lambda wildcards: rows_of(wildcards.participant, "val"),
    message:
        "Clips of {wildcards.participant} for the page of videos"
    script:
        "../workflow/scripts/browse_clips.py"


rule browse:
    input:
        **OFFICIAL_LISTS,
        **CLASS_LISTS,
        annotations=[ANNOTATIONS[split] for split in SHOWN_SPLITS],
        csvs=NAME_FILES["csvs"],
        pins=ANNOTATION_SHEET,
        sheet=SHEET,
        predictions=predictions_shown,
        dropped="results/clean/dropped.tsv",
        scans=expand("results/scan/{participant}.tsv", participant=PARTICIPANTS),
        clips=expand(
            "results/browse_clips/{participant}.tsv",
            participant=[name for name in PARTICIPANTS if videos_of(name, "val")],
        ),
        # Timelines that exist or are targets of the same call: the page makes no others.
        timelines=made_or_asked(
            [] if MODELS else [f"{home}/timeline" for home in SHOWN_HOMES],
            [video.video_id for video in VIDEOS if video.split in SHOWN_SPLITS],
        ),
    output:
        html=f"{'results' if SHOWN_RUNS else HOME}/browse/index.html",
    log:
        f"{'results' if SHOWN_RUNS else HOME}/logs/browse.log",
    retries: 0
    conda:
        "../envs/epic100.yaml"
    resources:
        **FOR_TABLES,
    params:
        reading=CONFIG.annotation_arguments,
        name=CONFIG.annotations.name,
        reduce=CONFIG.export.reduce,
        max_mb=CONFIG.browse.max_mb,
        splits=SHOWN_SPLITS,
        contents=lambda wildcards: contents_of("sheet", *ANNOTATIONS, *OFFICIAL_LISTS, *CLASS_LISTS),
        lists=[*OFFICIAL_LISTS, *CLASS_LISTS],
        names=lambda wildcards: CONFIG.browse.runs or [wildcards.get("run", CONFIG.run or "")],
        homes=lambda wildcards: [home.format(run=wildcards.get("run")) for home in SHOWN_HOMES],
        own=SHOWN_ARE_OWN,
        place=unrecorded(VIDEO_PLACE),
        call=unrecorded(call_of_this_run()),
    message:
        "Page of videos: {output.html}"
    script:
        "../workflow/scripts/browse.py"
