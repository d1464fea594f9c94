# These rules download missing videos and annotations over HTTP.
#
# An existing file is never the output of a rule, whatever its state: Snakemake removes the outputs
# of a job before it runs and after it fails, and no archive may be lost that way. So the outputs of
# these rules are only the files that are missing when the DAG is built. They run where `snakemake`
# runs, since compute nodes often have no internet access.

VIDEOS_TO_COME = [video.video_id for video in VIDEOS if needs_download(video)]
ANNOTATIONS_TO_COME = {
    key: path
    for key, path in ANNOTATION_FILES.items()
    if DOWNLOAD_ANNOTATIONS and not os.path.lexists(path)
}

# This limits the load on the server, unless `--resources download=N` sets another number.
if "download" not in workflow.global_resources:
    workflow.register_resource("download", 2)


if VIDEOS_TO_COME:

    rule download_video:
        output:
            video=f"{VIDEO_ROOT}/{{participant}}/{{video_id}}.MP4",
        log:
            "results/logs/download/{participant}.{video_id}.log",
        benchmark:
            "results/benchmarks/download/{participant}.{video_id}.tsv"
        wildcard_constraints:
            video_id="|".join(map(re.escape, VIDEOS_TO_COME)),
        localrule: True
        conda:
            "../envs/epic100.yaml"
        resources:
            mem_mb=1000,
            runtime="24h",
            download=1,
        params:
            row=lambda wildcards: vars(VIDEO_OF_ID[wildcards.video_id]),
            root=lambda wildcards, output: os.path.dirname(os.path.dirname(output.video)),
        message:
            "Download {wildcards.video_id} from {params.row[url]}"
        script:
            "../workflow/scripts/download_video.py"


if ANNOTATIONS_TO_COME:

    rule download_annotations:
        input:
            sheet=ANNOTATION_SHEET,
        output:
            **ANNOTATIONS_TO_COME,
        log:
            "results/logs/download/annotations.log",
        retries: 0
        localrule: True
        conda:
            "../envs/epic100.yaml"
        resources:
            mem_mb=1000,
            runtime=30,
            download=1,
        params:
            files=ANNOTATIONS_TO_COME,
        message:
            "Download the annotations that {input.sheet} names"
        script:
            "../workflow/scripts/download_annotations.py"
