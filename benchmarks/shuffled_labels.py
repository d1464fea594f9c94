"""Does the demo learn the actions, or something that leaks? Train once more on shuffled labels.

    python benchmarks/shuffled_labels.py [DEMO_FOLDER]

Takes a finished demo (`make demo`), deals the train segments' labels out anew, trains with the same
settings and compares top-1 action accuracy over the readable validation segments. The last line is
one JSON object. About as long as the demo's training.
"""

import json
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

from epic100.prediction.predict import predict
from epic100.scoring.evaluation import evaluate
from epic100.segments.official_lists import find_lists
from epic100.segments.pairs import read_pairs
from epic100.segments.segment_list import read_segments, write_segments
from epic100.settings import PredictSettings, TrainSettings, layered_settings
from epic100.training.train import train

ROOT = Path(__file__).resolve().parent.parent
FIGURE = "readable_action_accuracy_at_1"


def main(demo: Path) -> None:
    """Train and evaluate in a temporary folder beside nothing of the demo's own."""
    config = layered_settings([ROOT / "config/demo.yaml"])
    real = json.loads((demo / "results/metrics.json").read_text())[FIGURE]
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results"
        for name in ("clean", "scan", "segments"):
            shutil.copytree(demo / "results" / name, results / name)
        listed = read_segments(results / "clean/train.txt")
        order = list(range(len(listed)))
        random.Random(0).shuffle(order)
        listed[["verb", "noun"]] = listed[["verb", "noun"]].to_numpy()[order]
        write_segments(listed, results / "clean/train.txt")
        video_root = str(demo / config.videos.root)
        settings = {"config": str(ROOT / config.train.config), "load_from": None, "workers": 1}
        train(
            TrainSettings.model_validate(settings), results / "model.pth", results=str(results),
            video_root=video_root, num_verbs=97, num_nouns=300,
        )  # fmt: skip
        predict(
            results / "model.pth", results / "clean/val.txt", results / "val.pt", split="val",
            video_root=video_root, index_dir=str(results / "scan"),
            settings=PredictSettings(clips=config.predict.clips),
        )  # fmt: skip
        lists = find_lists(demo / config["annotations"]["val"], config["evaluate"])
        figures = evaluate(
            results / "val.pt", results / "segments/val.txt", results / "metrics.json",
            lists=lists, reduce=config["export"]["reduce"],
        )  # fmt: skip
        pairs = len(read_pairs(results / "clean/pairs.tsv"))
    shuffled = figures[FIGURE]
    print(
        json.dumps(
            {
                "true_labels_percent": real,
                "shuffled_labels_percent": shuffled,
                "chance_percent": 100 / pairs,
            }
        )
    )


if __name__ == "__main__":
    os.chdir(ROOT)
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo").resolve())
