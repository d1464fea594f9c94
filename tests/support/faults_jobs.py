"""The jobs in which `faults.py` lets system calls fail: one of each rule.

Snakemake itself runs the workflow on videos of a few seconds. Before the first job of each rule,
the folder is copied and the job's script is kept, so that this job can run again and again.
"""

import ast
import contextlib
import http.server
import os
import pickle
import re
import shutil
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import md5, sha256
from pathlib import Path
from typing import NoReturn

import yaml

from epic100.base.shipped import ROOT
from epic100.minikitchen import write_annotations, write_video
from epic100.video.sheet import Video

VIDEOS = (
    Video("P01_01", "P01", "train", 50.0, 8.0),
    Video("P01_02", "P01", "val", 50.0, 6.0),
    Video("P01_03", "P01", "test", 50.0, 4.0),
)
TRAINING = {
    "config": "config/x3d_demo.py",
    "from_scratch": True,
    "epochs": 1,
    "batch_size": 2,
    "options": {
        "train_dataloader.dataset.pipeline.3.size": 32,
        "train_dataloader.dataset.pipeline.2.short_side": [36, 40],
    },
}
CSVS = {
    "train": "annotations/EPIC_100_train.csv",
    "val": "annotations/EPIC_100_validation.csv",
    "test": "annotations/EPIC_100_test_timestamps.csv",
}
KITCHEN = {
    "annotations": CSVS,
    "videos": {"sheet": "sheet.tsv", "root": "videos"},
    "train": TRAINING,
    "predict": {"clips": 1},
    "export": {"sls": {"pt": 0, "tl": 3, "td": 3}},
}


@dataclass(frozen=True)
class Scene:
    """A call of Snakemake.

    Attributes:
        config: The sections of the config beside those of `KITCHEN`.
        targets: The targets.
        makes: The rules of which a job is kept here.
        needed: Whether later scenes need its files.
    """

    config: dict
    targets: tuple[str, ...]
    makes: tuple[str, ...]
    needed: bool = True


def scenes(url: str) -> dict[str, Scene]:
    """List the calls that run every rule, in order; `url` serves the files that are downloaded."""
    second = {"run": "second", "train": {**TRAINING, "seed": 1}}
    copies = {"videos": {**KITCHEN["videos"], "proxy": {"height": 64}}}
    models = ["results/model.pth", "results/runs/second/model.pth"]
    return {
        "kitchen": Scene(
            {"minikitchen": {"seed": 1}},
            (CSVS["train"], "videos/P01/P01_01.MP4"),
            makes=("minikitchen_annotations", "minikitchen_video"),
            needed=False,
        ),
        "archive": Scene(
            {
                "annotations": {**CSVS, "download": True, "sheet": "pins.tsv"},
                "videos": {
                    "sheet": "urls.tsv",
                    "root": "videos",
                    "download": True,
                    "private_hosts": ["127.0.0.1"],
                },
                "train": {**TRAINING, "from_scratch": False, "load_from": f"{url}/start.pth"},
            },
            ("weights", "results/annotations.ok", "results/videos.ok"),
            makes=(
                "weights",
                "download_annotations",
                "annotations_ok",
                "download_video",
                "videos_ok",
            ),
        ),
        "run": Scene(
            copies,
            (
                "results/clean/trainval.txt",
                "all",
                "results/timeline/P01_02.tsv",
                "results/background.json",
                "results/features/P01.tsv",
                "results/detections.json",
            ),
            makes=(
                "annotate",
                "scan",
                "proxy",
                "clean",
                "trainval",
                "train",
                "predict",
                "export",
                "evaluate",
                "model_card",
                "figures_archive",
                "figures_training",
                "figures_results",
                "report",
                "timeline",
                "background",
                "detections",
                "features",
            ),
        ),
        # The page shows the timeline that was made.
        "page": Scene(
            copies,
            ("results/browse/index.html",),
            makes=("clips", "clips_list", "browse"),
        ),
        "probe": Scene(
            {**copies, "run": "probe", "probe": {"epochs": 1}},
            ("results/runs/probe/predictions/val.pt",),
            makes=("tokens", "probe_train", "probe_predict"),
        ),
        "second run": Scene(second, ("results/compare.tsv",), makes=("compare",)),
        "both": Scene(
            {"run": "both", "predict": {"clips": 1, "models": models}},
            ("results/runs/both/predictions/val.pt",),
            makes=("average",),
        ),
    }


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve videos, annotations and start weights over HTTP from this machine; yield the URL."""
    import torch
    from mmaction.registry import MODELS
    from mmengine.registry import init_default_scope

    import epic100.mmaction  # noqa: F401  (registers what the config names)
    from epic100.settings import TrainSettings
    from epic100.training.recipe import build_config

    write_annotations(VIDEOS, folder, seed=1)
    for task, classes in (("verb", 97), ("noun", 300)):
        lines = ["id,key", *(f"{n},{task} {n}" for n in range(classes))]
        (folder / f"EPIC_100_{task}_classes.csv").write_text("\n".join([*lines, ""]))
    for video in VIDEOS:
        write_video(video, folder / f"{video.video_id}.MP4", seed=1)
    settings = TrainSettings(config=str(ROOT / TRAINING["config"]), load_from=None)
    (folder / "clean").mkdir()
    (folder / "clean/pairs.tsv").write_text("pair_id\tverb\tnoun\tcount\n0\t0\t1\t1\n")
    init_default_scope("mmaction")
    model = MODELS.build(build_config(settings, str(folder), str(folder)).model)
    torch.save({"state_dict": model.state_dict()}, folder / "start.pth")
    handler = partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves the files of a folder, and logs nothing."""

    def log_message(self, *args) -> None:
        """Log nothing."""


def write_inputs(folder: Path, files: Path, url: str) -> None:
    """Write the inputs of a run: the sheets of videos and of annotations."""
    head, plain, urls = "video_id\tparticipant_id\tsplit\tfps\tduration\turl\tmd5\n", "", ""
    for video in VIDEOS:
        name = f"{video.video_id}.MP4"
        row = f"{video.video_id}\tP01\t{video.split}\t{video.fps}\t{video.duration}"
        plain += f"{row}\t\t\n"
        urls += f"{row}\t{url}/{name}\t{md5((files / name).read_bytes()).hexdigest()}\n"
    pins = "name\turl\tchecksum\n"
    for path in sorted(files.glob("*.csv")):
        pins += f"{path.name}\t{url}/{path.name}\tsha256:{sha256(path.read_bytes()).hexdigest()}\n"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sheet.tsv").write_text(head + plain)
    (folder / "urls.tsv").write_text(head + urls)
    (folder / "pins.tsv").write_text(pins)


def record(folder: Path, store: Path, scene: Scene, only: list[str]) -> NoReturn:
    """Run a scene in `folder`, keep a job of each rule in `store`, and end this process.

    A job is `{rule}/run`, the folder as it was before, and `{rule}/script.py`. Scripts run in forks
    of this process, which has imported what they need. `only`: rules to keep; none means all. The
    scene runs no further than it must for these.
    """
    from snakemake.benchmark import benchmarked
    from snakemake.cli import main
    from snakemake.script import PythonScript

    def execute(script: PythonScript, name: str, edit: bool = False) -> None:
        place = store / script.rulename
        first = script.output[0]
        if place.exists() and Path(first).suffix != Path(outputs_of(place / "script.py")[0]).suffix:
            # The rule has outputs of two formats.
            place = store / f"{script.rulename}{Path(first).suffix}"
        if (not only or script.rulename in only) and not place.exists():
            skip = shutil.ignore_patterns("scripts", "locks", "incomplete")
            shutil.copytree(folder, place / "run", symlinks=True, ignore=skip)
            shutil.copyfile(name, place / "script.py")
        child = os.fork()
        if not child:
            run_script(Path(name))
        with benchmarked(child, script.bench_record):
            _, status = os.waitpid(child, 0)
        if status:
            raise RuntimeError(f"{script.rulename} fails without a fault")

    PythonScript.execute_script = execute
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({**KITCHEN, **scene.config}))
    os.chdir(ROOT)
    main(
        [
            *scene.targets,
            "--snakefile",
            str(ROOT / "Snakefile"),
            "--directory",
            str(folder),
            "--configfile",
            str(config),
            "--cores",
            "1",
            "--profile",
            "none",
            "--workflow-profile",
            "none",
            "--rerun-triggers",
            "mtime",
            *(["--until", *only] if only and set(scene.makes) >= set(only) else []),
        ]
    )
    raise AssertionError("Snakemake ends this process")


def run_script(script: Path) -> NoReturn:
    """Run a kept script in this process, as Python would, and end the process."""
    code = 0
    try:
        names = {"__name__": "__main__", "__file__": str(script)}
        exec(compile(script.read_text(), script, "exec"), names)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        code = 1
        traceback.print_exc()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def outputs_of(script: Path) -> list[str]:
    """List the outputs of a kept job, which Snakemake removes before it runs the job once more.

    Snakemake writes its object of the job as a pickle into the first lines of the script.
    """
    text = r"""b'(?:[^'\\]|\\.)*'|b"(?:[^"\\]|\\.)*\""""
    kept = re.search(rf"snakemake = pickle\.loads\(({text})\)", script.read_text())
    assert kept, f"{script} is no script of Snakemake"
    return list(pickle.loads(ast.literal_eval(kept[1])).output)
