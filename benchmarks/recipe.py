"""Measure what each choice of the recipe gains on the hard mini kitchen, one at a time.

    python benchmarks/recipe.py [FOLDER] [--choices base segment ...] [--seeds 3] [--minutes M]

Films the hard kitchen (`minikitchen: level: hard`) in small pictures into FOLDER, scans and lists
it with the library, and trains a small X3D from random weights for each choice and seed: the same
schedule, the same start. Every finished run is a line of FOLDER/runs.jsonl, so that the same
command goes on where it was cut; `--minutes` ends it after so long. Prints a Markdown table: top-1
over the readable val segments in percent, mean and standard deviation over the seeds, and the
difference to `base` of the same seeds with its 95 % interval (Student's t). The last line is JSON.

"shuffled labels" deals the labels of the train segments out anew for each seed. Its chance is that
of its own answers: how often they would be right if they were given to the val segments at random.

It judges how frames are taken, which heads learn and how they are folded, crops and views. It
cannot judge what depends on pretrained weights: BatchNorm, learning rate, weight decay.
"""

import argparse
import json
import random
import shutil
import statistics
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config
from tables import markdown

from epic100.data.annotations import index_segments, read_annotations
from epic100.data.cleaning import clean
from epic100.data.segment_list import read_segments, write_segments
from epic100.minikitchen import write_annotations, write_video
from epic100.prediction.predict import predict
from epic100.scan import scan_participant
from epic100.scoring.evaluation import evaluate
from epic100.scoring.predictions import Predictions, read_predictions
from epic100.settings import (
    PredictSettings,
    Settings,
    TrainSettings,
)
from epic100.training.train import train
from epic100.video.sheet import read_sheet

ROOT = Path(__file__).resolve().parent.parent
CLASSES = {"verbs": 97, "nouns": 300}
# Videos have pictures of this size, and the model sees squares with this side.
PICTURE, SIDE = (96, 54), 32
CSVS = {"train": "EPIC_100_train.csv", "val": "EPIC_100_validation.csv"}
# By number of seeds, these are the two-sided 95 % values of Student's t.
T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}
# The model has a twelfth of the demo's weights and takes a quarter of its time.
SMALL = {
    "model.backbone.gamma_w": 0.34,
    "model.backbone.gamma_d": 0.5,
    "model.cls_head.head.in_channels": 64,
    "log_level": "WARNING",
    "val_dataloader": None,
    "val_cfg": None,
    "val_evaluator": None,
}
RECIPE = str(ROOT / "config/x3d_demo.py")


@dataclass(frozen=True)
class Choice:
    """One change to the base.

    Args:
        heads: `train: heads:`.
        sample: What is changed in the step that takes the frames, or the step if it has a `type`.
        crop: The step of the train pipeline in place of decoding and cropping.
        predict: Settings of `predict:`.
        of: The choice whose trained model is predicted with, where nothing is trained anew.
        shuffled: Train on labels that are dealt out anew.
    """

    heads: str = "pair"
    sample: dict[str, Any] = field(default_factory=dict)
    crop: dict[str, Any] | None = None
    predict: dict[str, Any] = field(default_factory=dict)
    of: str | None = None
    shuffled: bool = False

    def pipelines(self) -> dict[str, list[dict[str, Any]]]:
        """Make the pipelines of the demo with this change, as options of its MMEngine config."""
        config, changed = Config.fromfile(RECIPE), {}
        for name in ("train_dataloader", "test_dataloader"):
            steps = [dict(step) for step in config[name].dataset.pipeline]
            base = {} if "type" in self.sample else steps[1]
            steps[1] = {**base, **self.sample, "test_mode": name == "test_dataloader"}
            if self.crop and name == "train_dataloader":
                steps[2:4] = [self.crop]
            changed[f"{name}.dataset.pipeline"] = steps
        return changed


OVER_THE_SEGMENT = {"type": "UniformSample", "clip_len": 13}
RESIZED = {"type": "DecodeSegment", "crop": "resized", "size": SIDE, "flip_ratio": 0.5}
CHOICES = {
    "base": Choice(),
    "segment": Choice(sample=OVER_THE_SEGMENT),
    "both": Choice("both"),
    "verb_noun": Choice("verb_noun"),
    "10 clips": Choice(predict={"clips": 10}, of="base"),
    "3 crops": Choice(predict={"crops": 3}, of="base"),
    "whole picture": Choice(predict={"crops": "whole"}, of="base"),
    "resized crop": Choice(crop=RESIZED),
    "target_fps 60": Choice(sample={"target_fps": 60}),
    "segment, both": Choice("both", OVER_THE_SEGMENT),
    "shuffled labels": Choice("both", OVER_THE_SEGMENT, shuffled=True),
}


def film(folder: Path) -> None:
    """Make the videos, scans and clean lists that do not exist yet."""
    results, sheet = folder / "results", ROOT / "config/hard_videos.tsv"
    videos = {v.video_id: v for v in read_sheet(sheet) if v.split in CSVS}
    if (results / "clean/pairs.tsv").is_file():
        return
    write_annotations(videos.values(), folder / "annotations", 0, "hard")
    csvs = {split: str(folder / "annotations" / name) for split, name in CSVS.items()}
    lists = {split: str(results / f"segments/{split}.txt") for split in CSVS}
    for split in CSVS:
        table = read_annotations(csvs[split], videos, split=split, classes=CLASSES)
        write_segments(index_segments(table, videos), lists[split])
    scans = []
    for participant in dict.fromkeys(video.participant_id for video in videos.values()):
        filmed = [video for video in videos.values() if video.participant_id == participant]
        for video in filmed:
            if not (path := video.path(folder / "videos")).exists():
                write_video(video, path, 0, size=PICTURE, level="hard")
        table = results / f"scan/{participant}.tsv"
        if not table.exists():
            scan_participant(filmed, folder / "videos", table, table.with_suffix(".index.npz"))
        scans.append(str(table))
    clean(
        videos,
        Settings(),
        segments=lists,
        scans=scans,
        lists={split: str(results / f"clean/{split}.txt") for split in csvs},
        pairs=str(results / "clean/pairs.tsv"),
        dropped=str(results / "clean/dropped.tsv"),
        salvage=str(results / "clean/salvage.tsv"),
    )


def one_run(folder: Path, choice: Choice, name: str, seed: int, epochs: int) -> dict[str, Any]:
    """Train (or take the model of `choice.of`) and predict; return the figures of the run."""
    results = folder / "results"
    kept = folder / "models" / f"{choice.of or name} {seed}.pth"
    if not kept.exists():
        settings = {
            "config": RECIPE,
            "load_from": None,
            "epochs": epochs,
            "seed": seed,
            "heads": choice.heads,
            "options": SMALL | choice.pipelines(),
        }
        with tempfile.TemporaryDirectory() as temporary:
            lists = Path(temporary)
            shutil.copytree(results, lists, dirs_exist_ok=True)
            if choice.shuffled:
                shuffle_labels(lists / "clean/train.txt", seed)
            train(
                TrainSettings.model_validate(settings),
                kept,
                results=temporary,
                video_root=str(folder / "videos"),
                num_verbs=97,
                num_nouns=300,
            )
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "val.pt"
        views = {"clips": 1, "batch_size": 8, **choice.predict}
        predict(
            kept,
            results / "clean/val.txt",
            out,
            split="val",
            video_root=str(folder / "videos"),
            index_dir=str(results / "scan"),
            settings=PredictSettings(**views),
        )
        figures = evaluate(
            out,
            results / "segments/val.txt",
            Path(temporary) / "metrics.json",
            lists={},
            reduce=None,
        )
        chance = chance_of(read_predictions(out, "val"), results / "segments/val.txt")
    head = figures["action_head_accuracy_at_1"]
    return {"action_head": head, "chance": chance, **figures["by_reduce"]}


def shuffle_labels(path: Path, seed: int) -> None:
    """Shuffle the labels of a list among its segments."""
    listed = read_segments(path)
    order = random.Random(seed).sample(range(len(listed)), len(listed))
    listed[["verb", "noun"]] = listed[["verb", "noun"]].to_numpy()[order]
    write_segments(listed, path)


def chance_of(predictions: Predictions, segments: Path) -> float:
    """Compute the percent of right pairs if the predicted pairs were shuffled among segments."""
    listed = read_segments(segments).set_index("narration_id").loc[predictions.narration_ids]
    best = Counter(predictions.pairs[i][:2] for i in predictions.log_probs.argmax(1).tolist())
    true = Counter(zip(listed["verb"], listed["noun"], strict=True))
    return 100 * sum(best[pair] * true[pair] for pair in best) / len(listed) ** 2


def rows(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Make a row for each choice and reduction method, in the order of the choices."""
    table_rows = []
    for name in CHOICES:
        of_choice = {run["seed"]: run for run in runs if run["choice"] == name}
        for way in dict.fromkeys(
            w for run in of_choice.values() for w in WAYS if w in run["figures"]
        ):
            values = {s: run["figures"][way] for s, run in of_choice.items()}
            base = {run["seed"]: run for run in runs if run["choice"] == "base"}
            gains = [
                values[s]["readable_action_accuracy_at_1"]
                - base[s]["figures"]["max"]["readable_action_accuracy_at_1"]
                for s in values.keys() & base.keys()
            ]
            table_rows.append(
                {
                    "choice": name,
                    "fold": way,
                    "seeds": len(values),
                    **_means(values),
                    **_gain(gains),
                }
            )
    return table_rows


WAYS = ("max", "logsumexp", "heads", "joint")
SHOWN = ("verb", "noun", "action")


def _means(values: dict[int, dict[str, float]]) -> dict[str, float]:
    means = {}
    for task in SHOWN:
        figures = [v[f"readable_{task}_accuracy_at_1"] for v in values.values()]
        means[task] = statistics.mean(figures)
        means[f"{task}_sd"] = statistics.stdev(figures) if len(figures) > 1 else 0.0
    means["beyond"] = statistics.mean(
        v["beyond_train_action_accuracy_at_1"] for v in values.values()
    )
    return means


def _gain(gains: list[float]) -> dict[str, float | None]:
    if len(gains) < 2:
        return {"gain": gains[0] if gains else None, "interval": None}
    half = T_95[len(gains)] * statistics.stdev(gains) / len(gains) ** 0.5
    return {"gain": statistics.mean(gains), "interval": half}


def table(found: list[dict[str, Any]]) -> str:
    """Write the rows as a Markdown table."""
    cells = []
    for row in found:
        gain = "" if row["gain"] is None else f"{row['gain']:+.1f}"
        gain += "" if row["interval"] is None else f" ± {row['interval']:.1f}"
        figures = [f"{row[task]:.1f} ± {row[f'{task}_sd']:.1f}" for task in SHOWN]
        names = (row["choice"], row["fold"], row["seeds"])
        cells.append((*names, *figures, f"{row['beyond']:.1f}", gain))
    head = "choice | folded by | seeds | verb | noun | action | beyond train | gain, 95 %"
    return markdown(head, cells)


def main() -> None:
    """Run what is missing, for as long as there is time, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "hard")
    parser.add_argument("--choices", nargs="+", choices=list(CHOICES), default=list(CHOICES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--minutes", type=float, default=90)
    options = parser.parse_args()
    until = time.monotonic() + 60 * options.minutes
    folder = options.folder.resolve()
    film(folder)
    log = folder / "runs.jsonl"
    runs = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    done = {(run["choice"], run["seed"]) for run in runs}
    for seed in range(options.seeds):
        for name in options.choices:
            if (name, seed) in done or time.monotonic() > until:
                continue
            started = time.monotonic()
            figures = one_run(folder, CHOICES[name], name, seed, options.epochs)
            run = {"choice": name, "seed": seed, "epochs": options.epochs, "figures": figures}
            runs.append(run | {"seconds": round(time.monotonic() - started)})
            with log.open("a") as file:
                file.write(json.dumps(runs[-1]) + "\n")
    table_rows = rows(runs)
    print(table(table_rows))
    print(json.dumps(table_rows))


if __name__ == "__main__":
    main()
