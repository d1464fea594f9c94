"""Run the official evaluator of detections on ours.

    python benchmarks/detections.py --official DIR --annotations CSV TIMELINE.json ...

DIR is a clone of epic-kitchens/C2-Action-Detection, which needs joblib; CSV a validation CSV; the
files are those of `epic100 predict` or of the rule timeline. What runs is a copy of its evaluator,
with `float` for `np.float`, which NumPy has dropped. Beside it, the annotation itself as
detections, which must be 100 %, and the same with each segment 100 s later.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

from epic100.prediction.timeline import write_detections
from epic100.settings import Settings


def evaluated(script: Path, detections: Path, labels: Path) -> dict[str, float]:
    """Run the official evaluator, and return the figures that it prints, by their names."""
    copy = labels.with_name("evaluate.py")
    copy.write_text(script.read_text().replace("np.float)", "float)"))
    command = [sys.executable, str(copy), str(detections), str(labels)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{script}: {done.stderr[-2000:]}")
    lines = (line.partition(": ") for line in done.stdout.splitlines())
    return {name: float(value) for name, _, value in lines if value and name.endswith("map_avg")}


def annotated(labels: pd.DataFrame, later: float) -> dict[str, list[dict]]:
    """The annotation as segments of timelines."""
    videos: dict[str, list[dict]] = {name: [] for name in labels["video_id"]}
    for row in labels.itertuples():
        ends = (row.start_timestamp, row.stop_timestamp)
        start, stop = (pd.Timedelta(end).total_seconds() + later for end in ends)
        videos[row.video_id].append(
            {
                "verb": row.verb_class,
                "noun": row.noun_class,
                "start": start,
                "stop": stop,
                "probability": 1.0,
            }
        )
    return videos


def main() -> None:
    """Evaluate and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--official", type=Path, required=True)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("timelines", type=Path, nargs="+")
    options = parser.parse_args()
    script = options.official.resolve() / "EvaluationCode/evaluate_detection_json_ek100.py"
    labels = pd.read_csv(options.annotations).set_index("narration_id")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        labels.to_pickle(folder / "labels.pkl")
        cases = {"timelines": options.timelines}
        for case, later in (("annotation", 0.0), ("annotation, 100 s late", 100.0)):
            cases[case] = []
            for video, segments in annotated(labels, later).items():
                path = folder / f"{video} {later}.json"
                path.write_text(json.dumps({"video": video, "segments": segments}))
                cases[case].append(path)
        figures = {}
        for case, files in cases.items():
            write_detections(files, folder / "detections.json", Settings())
            figures[case] = evaluated(script, folder / "detections.json", folder / "labels.pkl")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
