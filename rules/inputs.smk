# These functions give the input files of jobs, where that takes more than a line.

from epic100.data.start_weights import start_weights
from epic100.settings.config import runs_to_compare
from epic100.settings.config import DEFAULT


def annotations_of(wildcards):
    """The CSV of a job's split. If it is missing, the error names the key of the config."""
    if wildcards.split not in ANNOTATIONS:
        raise WorkflowError(
            f"results of split {wildcards.split} were asked for, but the config has no "
            f"`annotations: {wildcards.split}:`"
        )
    path = ANNOTATIONS[wildcards.split]
    if not (ANNOTATIONS_ARE_MADE or os.path.exists(path)):
        raise WorkflowError(
            f"{path}: no such file; expected the CSV of `annotations: {wildcards.split}:`; put it "
            "there, or set `annotations: {download: true}`"
        )
    return path


def figure(topic, name):
    """The path of a figure of the report. Figures of the data are the same for all runs."""
    folder = "results" if topic in ("data", "damage") else HOME
    return f"{folder}/figures/{topic}/{name}.svg"


def table(path, label):
    """An output that Snakemake's own report shows among its tables, under this label."""
    return report(path, category="Tables", labels={"table": label})


def exported_split(suffix):
    """The split of submission.pt or submission.zip: the one in the config, else val for `pt`, and
    test for `zip` if the config has a test CSV."""
    default_split = "test" if suffix == "zip" and "test" in ANNOTATIONS else "val"
    return CONFIG.export.split or default_split


def reject_average(wildcards):
    """Raise an error; it is the input function of rules for one model if the config has several."""
    raise WorkflowError(
        f"timelines and features are made with one model, and the config has {len(MODELS)} in "
        "`predict: models:`, whose average is of segments only; set `predict: {models: [], model: "
        "FILE}`"
    )


# The rules that need exactly one model have this as its file.
ONE_MODEL = reject_average if MODELS else MODEL


def files_of_folder(wildcards):
    """The files of a Hugging Face model, in the folder that `features: path:` names."""
    files = sorted(str(path) for path in Path(CONFIG.features.path).glob("*") if path.is_file())
    if not files:
        raise WorkflowError(
            f"{CONFIG.features.path}: no folder with files; expected that of a Hugging Face model "
            "(`features: path:`); download it there first"
        )
    return files


def predictions_shown(wildcards):
    """The predictions of the runs that the page shows. A run of another config must be finished,
    since no rule makes its predictions."""
    _, finished_runs = runs_to_compare([])
    finished = [run or DEFAULT for run in finished_runs]
    for run, is_of_this_config in zip(CONFIG.browse.runs, SHOWN_ARE_OWN):
        if not is_of_this_config and run not in finished:
            raise WorkflowError(
                f"`browse: runs:` names {run}, which is not finished: it needs metrics.json and "
                f"predictions/val.pt in its folder; finished runs: {', '.join(finished) or 'none'}"
            )
    return [f"{home}/predictions/val.pt" for home in SHOWN_HOMES]


def timelines_of(split):
    """An input function for the timelines of a split, of all videos on disk that are readable.

    A video without a scan counts as readable."""

    def paths(wildcards):
        # This module needs NumPy, which a Snakemake without the package may not have.
        from epic100.video.scan_table import read_scan_table

        tables = [f"results/scan/{participant}.tsv" for participant in PARTICIPANTS]
        rows = [row for path in tables if os.path.isfile(path) for row in read_scan_table(path)]
        unreadable = {row.video_id for row in rows if not row.readable}
        return [
            f"{HOME}/timeline/{video.video_id}.json".format(run=wildcards.get("run"))
            for video in VIDEOS
            if video.split == split
            and is_or_will_be_there(video)
            and video.video_id not in unreadable
        ]

    return paths


def made_or_asked(folders, names):
    """An input function for the tables `FOLDER/NAME.tsv` that exist or are targets of this call.

    So a missing table is not made just because a rule could read it."""

    def tables(wildcards):
        targets = {os.path.normpath(target) for target in workflow.dag_settings.targets}
        # The job of a table also makes `.json`, `.vtt` and `.activitynet.json` in its folder.
        tables_of_targets = {re.sub(r"(\.activitynet)?\.\w+$", ".tsv", path) for path in targets}
        paths = [
            f"{folder.format(run=wildcards.get('run'))}/{name}.tsv"
            for folder in folders
            for name in names
        ]
        return [path for path in paths if path in tables_of_targets or os.path.isfile(path)]

    return tables


# For each run the start weights, or None for random ones, and an error message, or "". A message
# stops only a call that trains.
START_WEIGHTS = {}
for run, section in (SWEEP or {None: CONFIG.train}).items():
    try:
        START_WEIGHTS[run] = (start_weights(section, existing_path(section.config, HERE)), "")
    except EpicError as error:
        START_WEIGHTS[run] = (None, str(error))
STARTS = {weights.path if weights else "random weights" for weights, _ in START_WEIGHTS.values()}
WEIGHTS_TEXT = STARTS.pop() if len(STARTS) == 1 else "its own start weights"


def weights_to_train_from(wildcards):
    """The file of a run's start weights, in a list; [] for random weights."""
    weights, defect = START_WEIGHTS[wildcards.get("run")]
    if weights and not (weights.is_url or os.path.exists(weights.path)):
        defect = (
            f"{weights.path}: no such file; expected the start weights of `train: load_from:`; "
            "correct the path, which is from the working folder on"
        )
    if defect:
        raise WorkflowError(defect)
    return [weights.path] if weights else []


def encoder_files(wildcards):
    """The files of a run's encoder of Hugging Face, so that others train again; [] without one."""
    folder = Path(config_of(wildcards).train.encoder or os.devnull)
    return sorted(
        str(path) for path in folder.glob("*") if path.suffix in (".json", ".safetensors")
    )


def decoder_memory(wildcards, threads):
    """The memory of a job that runs a decoder per thread, as the resource `mem_mb`.

    A decoder may take `scan: memory_mib:`, and fails with an error if a file needs more, before the
    kernel kills the complete job. Without a limit, which is 0, 3000 are requested for it. The job
    itself needs less than the 1000 that are added, so the 5 % by which a MiB is more than a MB
    come out of them."""
    return 1000 + threads * (CONFIG.scan.memory_mib or 3000)


def states_of(wildcards):
    """Size and time of each video file of a participant, as `123456 1700000000000000000`, or "".

    With this parameter a changed file causes a new scan. Snakemake itself notices a newer file, but
    not one that `rsync --times` replaced, nor that one is gone if a rule could make it."""
    paths = [FILES[video.path()] for video in videos_of(wildcards.participant)]
    states = [path.stat() if path.exists() else None for path in paths]
    return [f"{state.st_size} {state.st_mtime_ns}" if state else "" for state in states]
