"""What a run needs before its first job: videos, start weights, encoders, trainings that work.

A trial of each training (`training.trial`) runs in a separate process, and those that passed are
remembered. Snakemake imports this module, so nothing here needs torch.
"""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable
from importlib.metadata import distributions
from typing import Any

from epic100.base.atomic import write_text
from epic100.base.disk import digest, read_text
from epic100.base.errors import EpicError
from epic100.base.own_modules import code_digests, recipe_files
from epic100.base.shipped import ROOT, existing_path
from epic100.data.start_weights import StartWeights, check_weights, probe, start_weights
from epic100.settings.config import Settings

# These rules read clips of videos, or of their small copies.
READ_CLIPS = {"train", "predict", "timeline", "background", "features", "browse_clips"}
LOG = "results/logs/trial.log"
# Each line is the fingerprint of a training whose trial passed, and its recipe.
PASSED = "results/trials.txt"
# A trial that takes longer is ended, and then it stops no run.
LIMIT_SECONDS = 300
# Every trial trains so, with a checkpoint after the first of two steps. Its rate is the recipe's,
# which its small batch would otherwise lower.
TRIED = {"epochs": 2, "batch_size": 2, "workers": 0, "seed": 0, "nodes": 1, "scale_lr": False}
TRIED_OPTIONS = {"train_cfg.max_epochs": 2, "train_dataloader.batch_size": 2, "visualizer": None}


def reject_missing_videos(
    rules: Collection[str], missing: str, missing_val: str, *, has_copies: bool
) -> None:
    """Stop a run that reads videos, but has none, or one that cleans without any of val.

    Args:
        rules: The rules that have jobs.
        missing: The message about missing videos, or "".
        missing_val: The message if no video of val is there, or "".
        has_copies: Whether clips are read from small copies, and only scans from the videos.

    Raises:
        EpicError: As said.
    """
    readers = {"scan", "proxy"} | (set() if has_copies else READ_CLIPS)
    if missing and not readers.isdisjoint(rules):
        raise EpicError(missing)
    if missing_val and "clean" in rules:
        raise EpicError(missing_val)


def reject_missing_weights(rules: Collection[str], weights: Iterable[StartWeights | None]) -> None:
    """Stop a run whose start weights are wrong or cannot be fetched.

    Args:
        rules: The rules that have jobs.
        weights: The start weights of each training; None for random ones.

    Raises:
        EpicError: As said.
    """
    # Each file is read once, however many trainings start from it.
    for start in set(filter(None, weights)):
        if start.needs_download and "weights" in rules:
            probe(start)
        elif not start.needs_download and "train" in rules:
            check_weights(start)


def require_usable_encoders(folders: Iterable[str]) -> None:
    """Check before the jobs that each encoder of Hugging Face can be built.

    Args:
        folders: The folders of encoders that jobs read.

    Raises:
        EpicError: The folder holds no encoder, or one that cannot be built.
    """
    # With `--sdm conda`, only the jobs have torch.
    if folders and importlib.util.find_spec("torch"):
        from epic100.model.hugging_face_folder import HuggingFaceFolder

        for folder in folders:
            HuggingFaceFolder(folder).open()  # for its errors


def request_of(
    config: Settings, run: str | None, folder: str | os.PathLike = ROOT, *, remote: bool = False
) -> dict[str, Any]:
    """Make the request for the trial of a run's training, in plain values that go through JSON.

    Args:
        config: The config.
        run: The name of the run; None is the default run.
        folder: The folder of the files that ship with the workflow.
        remote: Whether jobs run on other machines. Then the trial leaves to the job what only a GPU
            can do.

    Raises:
        EpicError: As in `start_weights`.
    """
    train = config.of_run(run).train
    recipe = existing_path(train.config, folder)
    weights = start_weights(train, recipe)
    changes: dict[str, Any] = TRIED | {
        "accumulate": train.accumulate and min(train.accumulate, 2),
        "gpus": train.gpus and 1,
        "options": train.options | TRIED_OPTIONS,
    }
    if remote:
        changes |= {"device": "cpu", "gpus": None}
    if remote and train.gpus_to_ask:
        changes |= {"precision": None, "compile": False, "bn": train.bn.replace("sync", "local")}
    tried = train.model_copy(update=changes)
    place = {"device": tried.device, "gpus": tried.gpus, "workers": 0}
    predict = config.predict.model_copy(update=place)
    return {
        "settings": {
            "train": tried.stored(),
            "predict": predict.stored(),
            "classes": config.classes.stored(),
            "modules": config.modules.stored(),
        },
        "recipe": recipe,
        "weights": weights.path if weights else None,
        # MMEngine uses any GPU that it sees, so a process that works on the CPU sees none.
        "environment": {"CUDA_VISIBLE_DEVICES": ""} if tried.gpus_to_ask == 0 else {},
    }


def try_training(request: dict[str, Any], say: Callable[[str], None]) -> bool:
    """Make the trial of a training, unless that of the same training has passed in this folder.

    The output of libraries goes to `LOG`, with the traceback of a setting that fails.

    Args:
        request: The training (`request_of`).
        say: Called with a line at the beginning and at the end of a trial.

    Returns:
        Whether the trial has passed. If it cannot end here, the run goes on without.

    Raises:
        EpicError: The training would fail.
    """
    fingerprint = _fingerprint(request)
    passed = read_text(PASSED) if os.path.isfile(PASSED) else ""
    if fingerprint in passed.split():
        return True
    say("Trial: two steps, a resume and a prediction, on a film that is made for it")
    answer = _answer(request)
    if not answer:
        say(f"Trial: it did not finish; {LOG} has the details")
        return False
    if answer != "passed":
        raise EpicError(answer)
    write_text(PASSED, f"{passed}{fingerprint} {request['recipe']}\n")
    say(f"Trial: the training works; {PASSED} remembers it")
    return True


def _answer(request: dict[str, Any]) -> str:
    """Make the trial in a process of its own.

    Args:
        request: What `epic100.training.trial` reads from its input, as JSON.

    Returns:
        "passed", or why the training cannot work; "" if the process takes too long or crashes. It
        is the last line, since libraries may print others before.
    """
    os.makedirs(os.path.dirname(LOG), exist_ok=True)
    with (
        open(LOG, "wb", buffering=0) as log,
        tempfile.TemporaryDirectory(
            prefix=".trial_", dir="results", ignore_cleanup_errors=True
        ) as folder,
    ):
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-m", "epic100.training.trial", folder],
                input=json.dumps(request),
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | request["environment"],
                timeout=LIMIT_SECONDS,
                check=False,
                text=True,
            )
        except subprocess.TimeoutExpired:
            return ""
        return done.stdout.strip().rpartition("\n")[2]


def _fingerprint(request: dict[str, Any]) -> str:
    """Compute a digest of all that decides whether a trial passes: settings, files and versions."""
    files = [*recipe_files(request["recipe"]), request["weights"] or ""]
    decisive = {
        **request,
        "files": [digest(path, "sha256").value for path in files if os.path.isfile(path)],
        "code": code_digests(request["recipe"], request["settings"]["modules"]),
        "versions": sorted(
            f"{package.name} {package.version}"
            for name in ("epic100", "torch", "mmaction2")
            for package in distributions(name=name)
        ),
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]
