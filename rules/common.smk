# This reads the config, and names the paths and settings that several rules use. videos.smk does
# the same for the video sheet.

import importlib.util
import os
import re
import shlex
import sys
from pathlib import Path

from snakemake.io import sourcecache_entry
from snakemake.logging import logger

# A Snakemake without our package can read the rules of a clone with the clone's library. Its jobs
# then need `--sdm conda`.
if importlib.util.find_spec("epic100") is None:
    LIBRARY = Path(str(workflow.current_basedir)).parent / "workflow"
    if not LIBRARY.is_dir():
        raise WorkflowError(
            "the package epic100 is not installed next to Snakemake, and these rules come from no "
            "clone that has it; docs/reuse.md says how to install it"
        )
    sys.path.append(str(LIBRARY))

from epic100.base.disk import digest
from epic100.base.errors import EpicError
from epic100.base.shipped import reject_untrusted_config
from epic100.base.own_modules import code_digests, recipe_files
from epic100.base.shipped import ROOT, existing_path
from epic100.data.official_lists import CLASS_LISTS as CLASS_LIST_FILES, find_lists
from epic100.data.pairs import pairs_path
from epic100.settings.config import BASE_CONFIG, home_of, read_settings

# The folder of this workflow, also when another workflow uses it as a module. If Snakemake reads
# the rules from a repository's host, it is the folder of the installed package.
HERE = Path(str(workflow.current_basedir)).parent
if not HERE.is_dir():
    HERE = ROOT

# The config of the working folder replaces the one of this workflow.
if os.path.exists(BASE_CONFIG):
    reject_untrusted_config(BASE_CONFIG, HERE)
    CONFIG_FILE = BASE_CONFIG
else:
    CONFIG_FILE = workflow.source_path(f"../{BASE_CONFIG}")


configfile: CONFIG_FILE


# The script envs/epic100.post-deploy.sh reads this variable, since Snakemake runs a copy of it in
# another folder.
os.environ.update(EPIC100_ROOT=str(HERE))

# The shell that starts a job would cut such a path.
if " " in sys.executable:
    raise WorkflowError(
        f"{sys.executable}: the path of this environment has a space: make one without, `make install "
        "VENV=/a/path/to/.venv`"
    )
# An option is `--configfile A` or `--configfile=A`.
if sum(word.split("=")[0] in ("--configfile", "--configfiles") for word in sys.argv) > 1:
    raise WorkflowError(
        "--configfile is given more than once, and Snakemake would read the last one only; give all "
        "files behind one: --configfile A B"
    )


def shipped(path):
    """The input for a file that the config names: of the working folder, or else of this workflow.

    Snakemake records a file of this workflow by its name and its content, not by its path and time.
    So a checkout that is moved, copied or made anew plans nothing again."""
    existing = existing_path(path, HERE)
    if existing == path:
        return path
    return ancient(sourcecache_entry(existing, f"{path} {digest(existing, 'sha256').value[:16]}"))


CONFIG = read_settings(config, [*workflow.configfiles, *workflow.overwrite_configfiles])
if workflow.is_main_process:
    for doubt in CONFIG.doubts:
        logger.warning(f"config: {doubt}")
MINIKITCHEN = CONFIG.minikitchen
DOWNLOAD = CONFIG.videos.download
DOWNLOAD_ANNOTATIONS = CONFIG.annotations.download

# The folder of what a run trains and predicts; with a sweep, its name has the wildcard {run}.
HOME = CONFIG.home
SWEEP = CONFIG.runs
FEATURES = f"{HOME}/features"
# Where the encoder of Hugging Face is now that a model learned on; None: where it was in training.
MOVED_ENCODER = CONFIG.predict.encoder
# Several models predict if the config averages their predictions. Otherwise one model does: the one
# that the config names, or else the one that this run trains.
MODELS = CONFIG.predict.models
MODEL = MODELS or CONFIG.predict.model or f"{HOME}/model.pth"
TRAINED_HERE = CONFIG.trains

# Clips are read from the small copies (proxies) if the config sets them, else from the originals.
VIDEO_ROOT, VIDEO_PLACE = CONFIG.videos.root, CONFIG.videos.place
PROXY = CONFIG.videos.proxy
CLIP_ROOT = PROXY.root if PROXY else VIDEO_PLACE
CLIP_INDEXES = "results/proxies" if PROXY else "results/scan"

ANNOTATIONS = CONFIG.annotations.model_dump(include={"train", "val", "test"}, exclude_none=True)
EVALUATE = CONFIG.evaluate.model_dump()
# If a rule makes the annotations, they need not be there yet.
ANNOTATIONS_ARE_MADE = bool(MINIKITCHEN or DOWNLOAD_ANNOTATIONS)
OFFICIAL_LISTS = find_lists(ANNOTATIONS["val"], EVALUATE, to_be_made=ANNOTATIONS_ARE_MADE)
CLASS_LISTS = find_lists(
    ANNOTATIONS["val"], EVALUATE, to_be_made=DOWNLOAD_ANNOTATIONS, lists=CLASS_LIST_FILES
)
# The files with names of classes. The names of the lists go before the names of the CSVs.
NAME_FILES = {"csvs": [ANNOTATIONS["train"], ANNOTATIONS["val"]], "lists": CLASS_LISTS}
ANNOTATION_FILES = {**ANNOTATIONS, **OFFICIAL_LISTS, **CLASS_LISTS}
ANNOTATION_SHEET = shipped(CONFIG.annotations.sheet)

# The list of segments that the model learns from.
CLEAN_LIST = f"results/clean/{CONFIG.train.split}.txt"
PAIRS = pairs_path("results", CONFIG.train.split)


wildcard_constraints:
    participant="[^/]+",
    video="[A-Za-z0-9][A-Za-z0-9_-]*",
    split="train|val|test",
    run="|".join(map(re.escape, SWEEP)) or "[^/]+",


def unrecorded(value):
    """A parameter that Snakemake does not record, so that another value repeats no job.

    Paths of folders are such values: files that have moved are the same files.

    Snakemake records no parameter whose function takes `input`."""
    return lambda wildcards, input: value


# What jobs with a model read, how they compute and what they ask for.
PREDICTING = {
    "root": unrecorded(CLIP_ROOT),
    "encoder": unrecorded(MOVED_ENCODER),
    "predict": CONFIG.predict.stored(),
    "modules": CONFIG.modules.stored(),
}
FOR_PREDICTIONS = {"mem_mb": 32000, "runtime": "4h", "gpu": CONFIG.predict.gpus_to_ask}
# What short jobs ask for.
FOR_MINUTES = {"mem_mb": 1000, "runtime": 5}
FOR_LISTS = {"mem_mb": 2000, "runtime": 10}
FOR_TABLES = {"mem_mb": 4000, "runtime": 15}


def call_of_this_run():
    """The command of this run with its options, as one types it in the folder of the workflow."""
    typed = lambda path: os.path.relpath(path, HERE) if path.is_relative_to(HERE) else str(path)
    words = ["epic100", "run"]
    if not os.path.samefile(".", HERE):
        words += ["--directory", typed(Path.cwd())]
    if files := workflow.overwrite_configfiles:
        words += ["--configfile", *(typed(Path(file).resolve()) for file in files)]
    return shlex.join(words)


def config_of(wildcards):
    """The config of the run that a job belongs to: with a sweep, each run has its own."""
    return CONFIG.of_run(wildcards.get("run"))


def compared_settings(wildcards, input):
    """The sections of a run's config that its figures depend on, and digests of its recipe's files.

    Snakemake does not record them, since the function takes `input`."""
    run = config_of(wildcards)
    sections = {"participants", "clean", "predict", "export"}
    if TRAINED_HERE:
        sections.add("train")
    values = run.model_dump(mode="json", by_alias=True, include=sections)
    if TRAINED_HERE:
        recipe = existing_path(run.train.config, HERE)
        digests = {os.path.basename(recipe): digest(recipe, "sha256").value, **code_of(wildcards)}
        values["content"] = {name: value[:8] for name, value in digests.items()}
    return values


def code_of(wildcards):
    """Digests of the bases of the recipe and of the user's own modules: an edit trains again."""
    run = config_of(wildcards)
    recipe = existing_path(run.train.config, HERE)
    bases = filter(os.path.isfile, recipe_files(recipe)[1:])
    digests = {os.path.basename(path): digest(path, "sha256").value for path in bases}
    return digests | code_digests(recipe, run.modules.model_dump())
