"""Record one job of each rule, so that `failing_calls.py` can let its system calls fail.

Snakemake itself runs the workflow on videos of a few seconds. Before the first job of each rule,
the folder and the script of the job are copied, so that this job can run again and again.
"""

import contextlib
import json
import os
import runpy
import shutil
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import md5, sha256
from pathlib import Path
from typing import NoReturn

import yaml

from epic100.base.shipped import ROOT
from epic100.base.text_table import write_table
from epic100.minikitchen import write_video
from epic100.video.sheet import Video
from support.failing_server import serving
from support.lab import write_sheet
from support.official_files import write_official_files

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
        config: The sections of the config besides `KITCHEN`.
        targets: The targets.
        makes: The rules of which a job is recorded here.
    """

    config: dict
    targets: tuple[str, ...]
    makes: tuple[str, ...]


def scenes(url: str) -> dict[str, Scene]:
    """List the calls that run every rule, in order; `url` serves the files that are downloaded."""
    second = {"run": "second", "train": {**TRAINING, "seed": 1}}
    copies = {"videos": {**KITCHEN["videos"], "proxy": {"height": 64}}}
    models = ["results/model.pth", "results/runs/second/model.pth"]
    return {
        "archive": Scene(
            {
                "annotations": {**CSVS, "download": True, "sheet": "pins.tsv"},
                "videos": {
                    "sheet": "urls/sheet.tsv",
                    "root": "videos",
                    "download": True,
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
            makes=("browse_clips", "browse"),
        ),
        "second run": Scene(second, ("results/compare.tsv",), makes=("compare",)),
        "both": Scene(
            {"run": "both", "predict": {"clips": 1, "models": models}},
            ("results/runs/both/predictions/val.pt",),
            makes=("average",),
        ),
        # Its files are not those that were downloaded.
        "kitchen": Scene(
            {
                "minikitchen": {"seed": 1},
                "annotations": {split: f"drawn/{path}" for split, path in CSVS.items()},
                "videos": {**KITCHEN["videos"], "root": "drawn/videos"},
            },
            (f"drawn/{CSVS['train']}", "drawn/videos/P01/P01_01.MP4"),
            makes=("minikitchen_annotations", "minikitchen_video"),
        ),
    }


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Write videos, annotations and start weights, and serve them over HTTP; yield the URL."""
    write_official_files(VIDEOS, folder)
    for video in VIDEOS:
        write_video(video, folder / f"{video.video_id}.MP4", seed=1)
    _write_start_weights(folder)
    with serving() as server:
        for path in folder.glob("*.*"):
            server.put(path.name, path.read_bytes())
        yield f"http://127.0.0.1:{server.server_port}"


def _write_start_weights(folder: Path) -> None:
    """Write random weights for the recipe of `TRAINING` to `start.pth`."""
    import torch
    from mmaction.registry import MODELS
    from mmengine.registry import init_default_scope

    import epic100.mmaction  # noqa: F401  (registers what the config names)
    from epic100.settings.training import TrainSettings
    from epic100.training.recipe import build_config

    settings = TrainSettings(config=str(ROOT / TRAINING["config"]), load_from=None)
    (folder / "clean").mkdir()
    (folder / "clean/pairs.tsv").write_text("pair_id\tverb\tnoun\tcount\n0\t0\t1\t1\n")
    init_default_scope("mmaction")
    model = MODELS.build(build_config(settings, str(folder), str(folder)).model)
    torch.save({"state_dict": model.state_dict()}, folder / "start.pth")


def write_inputs(folder: Path, files: Path, url: str) -> None:
    """Write the sheets of a run: of videos without and with URLs, and of annotations."""
    (folder / "urls").mkdir(parents=True)
    write_sheet(VIDEOS, folder)
    with_urls = []
    for video in VIDEOS:
        name = f"{video.video_id}.MP4"
        digest = md5((files / name).read_bytes()).hexdigest()
        with_urls.append(replace(video, url=f"{url}/{name}", md5=digest))
    write_sheet(with_urls, folder / "urls")
    pins = [
        (path.name, f"{url}/{path.name}", f"sha256:{sha256(path.read_bytes()).hexdigest()}")
        for path in sorted(files.glob("*.csv"))
    ]
    write_table(folder / "pins.tsv", ("name", "url", "checksum"), pins)


def record(folder: Path, store: Path, scene: Scene, only: list[str]) -> NoReturn:
    """Run a scene in `folder`, copy a job of each rule into `store`, and end this process.

    Snakemake runs in this process, and each script in a fork of it, which needs no imports.

    Args:
        folder: The working directory of Snakemake.
        store: Where a job becomes `{rule}/run`, the folder before it, `{rule}/script.py`, and
            `{rule}/outputs.json`, the outputs that Snakemake removes before it runs the job again.
        scene: The scene. It runs no further than it must for the rules of `only`.
        only: The rules to record.
    """
    from snakemake.benchmark import benchmarked
    from snakemake.cli import main
    from snakemake.script import PythonScript

    def execute(script: PythonScript, name: str, edit: bool = False) -> None:
        """Copy the job if it is the first of its rule, and run its script in a fork."""
        place = store / script.rulename
        if script.rulename in only and not place.exists():
            skip = shutil.ignore_patterns("scripts", "locks", "incomplete")
            shutil.copytree(folder, place / "run", symlinks=True, ignore=skip)
            shutil.copyfile(name, place / "script.py")
            (place / "outputs.json").write_text(json.dumps(list(script.output)))
        child = os.fork()
        if child == 0:
            # The fork ends here, since it must not go on as a second Snakemake.
            try:
                runpy.run_path(name, run_name="__main__")
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        with benchmarked(child, script.bench_record):
            _, status = os.waitpid(child, 0)
        if status:
            raise RuntimeError(f"{script.rulename} fails without an error")

    PythonScript.execute_script = execute
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({**KITCHEN, **scene.config}))
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
            *(["--until", *only] if set(scene.makes) >= set(only) else []),
        ]
    )
    raise AssertionError("Snakemake ends this process")
