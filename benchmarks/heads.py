"""What label smoothing, dropout and averaged weights bring on the mini kitchen.

    python benchmarks/heads.py [DEMO_FOLDER] [--lists even tail] [--seeds 3] [--epochs 40]

Takes the clean lists of a demo (`snakemake results/clean/pairs.tsv` is enough) and trains the
demo's model, on pictures of 32 pixels to save time, once for each setting and seed on two lists:
all segments, where the eight pairs are equally frequent, and a long tail of them (each pair has
0.68 times the segments of the one before, 16 down to 1). What the tail leaves out is added to its
validation. Prints top-1 over segments, the mean over pairs, and the mean over pairs of at most four
segments; the last line is one JSON object.

A toy: eight pairs of drawn pictures say whether a switch does what its paper says, not what it
brings on EPIC-100.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
from pathlib import Path

import pandas as pd
import torch

from epic100.prediction.predict import predict
from epic100.scoring.predictions import read_predictions
from epic100.segments.pairs import read_pairs, write_pairs
from epic100.segments.segment_list import read_segments, write_segments
from epic100.settings import PredictSettings, Settings, TrainSettings, layered_settings
from epic100.training.train import train

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = {
    "plain": {},
    "label_smoothing 0.1": {"label_smoothing": 0.1},
    "dropout 0.5": {"dropout": 0.5},
    "ema 0.98": {"ema": 0.98},
}
RATIO, MOST, RARE = 0.68, 16, 4
SMALL = {
    "train_dataloader.dataset.pipeline.2.short_side": (32, 38),
    "train_dataloader.dataset.pipeline.3.size": 32,
    "test_dataloader.dataset.pipeline.2.short_side": 35,
    "test_dataloader.dataset.pipeline.3.crop_size": 32,
    "log_level": "WARNING",
}


def lists(demo: Path, tail: bool) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Train list, val list (pairs that train has) and pair table."""
    pairs = pd.DataFrame(read_pairs(demo / "results/clean/pairs.tsv"))
    pairs.columns = ["verb", "noun", "count"]
    pairs.insert(0, "pair_id", range(len(pairs)))
    listed = read_segments(demo / "results/clean/train.txt")
    val = read_segments(demo / "results/clean/val.txt").merge(pairs[["verb", "noun"]])
    if not tail:
        return listed, val, pairs
    kept, left = [], [val]
    for pair, (verb, noun) in enumerate(zip(pairs["verb"], pairs["noun"], strict=True)):
        own = listed[(listed["verb"] == verb) & (listed["noun"] == noun)]
        number = max(1, round(MOST * RATIO**pair))
        kept.append(own[:number])
        left.append(own[number:])
        pairs.loc[pair, "count"] = len(kept[-1])
    return pd.concat(kept).sort_index(), pd.concat(left), pairs


def accuracies(found, val: pd.DataFrame) -> dict[str, float]:
    """Percent: over segments, over pairs, over rare pairs."""
    pairs = {pair[:2]: i for i, pair in enumerate(found.pairs)}
    truth = torch.tensor([pairs[p] for p in zip(val["verb"], val["noun"], strict=True)])
    right = (found.log_probs.argmax(1) == truth).float()
    by_pair = {i: right[truth == i].mean().item() for i in pairs.values() if (truth == i).any()}
    rare = [by_pair[i] for i, pair in enumerate(found.pairs) if pair[2] <= RARE and i in by_pair]
    figures = {"top1": right.mean().item(), "pairs": statistics.mean(by_pair.values())}
    figures["rare"] = statistics.mean(rare) if rare else float("nan")
    return {name: 100 * value for name, value in figures.items()}


def one_run(demo: Path, config: Settings, tail: bool, chosen: dict) -> dict[str, float]:
    """Train and predict in a temporary folder."""
    listed, val, pairs = lists(demo, tail)
    video_root = str(demo / config.videos.root)
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results"
        shutil.copytree(demo / "results/scan", results / "scan")
        write_segments(listed, results / "clean/train.txt")
        write_segments(val, results / "clean/val.txt")
        write_pairs(pairs, results / "clean/pairs.tsv")
        options = {**SMALL, "val_dataloader": None, "val_cfg": None, "val_evaluator": None}
        given = {"config": str(ROOT / config.train.config), "load_from": None, "workers": 1}
        settings = TrainSettings.model_validate({**given, "options": options, **chosen})
        train(
            settings, results / "model.pth", results=str(results), video_root=video_root,
            num_verbs=97, num_nouns=300,
        )  # fmt: skip
        predict(
            results / "model.pth", results / "clean/val.txt", results / "val.pt", split="val",
            video_root=video_root, index_dir=str(results / "scan"), settings=PredictSettings(),
        )  # fmt: skip
        return accuracies(read_predictions(results / "val.pt", "val"), val)


def main() -> None:
    """All settings on both lists."""
    parser = argparse.ArgumentParser()
    parser.add_argument("demo", nargs="?", type=Path, default=ROOT / "demo")
    parser.add_argument("--lists", nargs="+", choices=["even", "tail"], default=["even", "tail"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=40)
    given = parser.parse_args()
    demo = given.demo.resolve()
    os.chdir(ROOT)
    config = layered_settings([ROOT / "config/demo.yaml"])
    rows = []
    for kind in given.lists:
        for name, chosen in SETTINGS.items():
            for seed in range(given.seeds):
                settings = {"epochs": given.epochs, "seed": seed, **chosen}
                found = one_run(demo, config, kind == "tail", settings)
                rows.append({"list": kind, "setting": name, **found})
                print(json.dumps({**rows[-1], "seed": seed}), flush=True)
    table = pd.DataFrame(rows).groupby(["list", "setting"], sort=False)
    print(table.agg(["mean", "std"]).round(1).to_string())
    means = table.mean().round(1)
    print(json.dumps({f"{a}, {b}": row for (a, b), row in means.to_dict("index").items()}))


if __name__ == "__main__":
    main()
