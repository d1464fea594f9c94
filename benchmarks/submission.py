"""Compare figures and submissions with those of the official tools, and measure the time.

    python benchmarks/submission.py [--official DIR] [--annotations DIR] [--demo DIR]

--official     a clone of epic-kitchens/C1-Action-Recognition, whose evaluate.py and
               create_submission.py are run on our files; without it only times are measured
--annotations  official CSVs (validation with the tail and unseen lists, test timestamps); without
               it as many made-up segments
--demo         a finished demo (`make demo`), whose real scores are one more case

Times are of one process with torch's usual threads, memory is that process's peak. The last line
printed is one JSON object.
"""

import argparse
import csv
import json
import pickle
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml

from epic100.base.torch_file import write_tensors
from epic100.data.official_lists import LISTS, find_lists
from epic100.scoring.evaluation import evaluate
from epic100.scoring.predictions import (
    Predictions,
    complete_scores,
    read_predictions,
    write_predictions,
)
from epic100.scoring.submission import check, export
from epic100.scoring.submission_file import build, read_submission, write_zip

# Val and test have 9,668 and 13,092 segments, and train has 3,568 pairs.
VAL, TEST, PAIRS = 9668, 13092, 3568
SLS = {"pt": 2, "tl": 3, "td": 4}
LABELS = "EPIC_100_validation.csv"


def made_up_annotations(folder: Path) -> Path:
    """Write CSVs with the needed columns and as many rows as the official ones."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "narration_id": [f"P{i % 32 + 1:02d}_11_{i}" for i in range(VAL)],
            "participant_id": [f"P{i % 32 + 1:02d}" for i in range(VAL)],
            "video_id": [f"P{i % 32 + 1:02d}_11" for i in range(VAL)],
            "verb_class": np.minimum(rng.zipf(1.5, VAL) - 1, 96),
            "noun_class": np.minimum(rng.zipf(1.3, VAL) - 1, 299),
        }
    )
    frame.to_csv(folder / LABELS, index=False)
    ids = [f"P{i % 37 + 1:02d}_112_{i}" for i in range(TEST)]
    pd.DataFrame({"narration_id": ids}).to_csv(folder / "EPIC_100_test_timestamps.csv", index=False)
    values = ([*range(20, 97)], [*range(60, 300)], ["P18", "P32"])
    for (name, column), some in zip(LISTS.values(), values, strict=True):
        pd.DataFrame({column: some}).to_csv(folder / name, index=False)
    return folder


def log_softmax(scores: np.ndarray) -> np.ndarray:
    """Turn scores into log-probabilities in float32, as a submission has them."""
    return torch.from_numpy(scores).double().log_softmax(1).float().numpy()


def cases(labels: pd.DataFrame) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """List cases: a name, verb scores [N, 97] and noun scores [N, 300]."""
    rng = np.random.default_rng(1)
    n = len(labels)

    def informed(sharp: float = 1.0) -> list[np.ndarray]:
        outputs = []
        for column, size in (("verb_class", 97), ("noun_class", 300)):
            scores = rng.normal(size=(n, size))
            scores[np.arange(n), labels[column]] += rng.normal(1.5, 1.5, n)
            outputs.append(scores * sharp)
        return outputs

    yield "random", *(rng.normal(size=(n, size)).astype(np.float32) for size in (97, 300))
    yield "informed", *map(log_softmax, informed())
    yield "sharp", *map(log_softmax, informed(12))
    yield "underflowing", *map(log_softmax, informed(60))
    yield "tied in part", *((x * 2).round().astype(np.float32) / 2 for x in informed())
    yield "tied", *(x.round().astype(np.float32) for x in informed())
    yield "one-hot", *((x == x.max(1, keepdims=True)).astype(np.float32) for x in informed())
    yield "all equal", np.zeros((n, 97), np.float32), np.zeros((n, 300), np.float32)
    verb, noun = map(log_softmax, informed())
    verb[::3], noun[::3] = verb[0], noun[0]
    yield "a third the prior", verb, noun


def official_figures(
    official: Path, annotations: Path, labels: pd.DataFrame, results: Path
) -> dict[str, float]:
    """Run evaluate.py on `results`, and return what it prints, by our names."""
    pickled = results.with_name("labels.pkl")
    labels.to_pickle(pickled)
    names = [annotations / LISTS[key][0] for key in LISTS]
    options = ("--tail-verb-classes-csv", "--tail-noun-classes-csv", "--unseen-participant-ids-csv")
    arguments = [str(x) for pair in zip(options, names, strict=True) for x in pair]
    command = [sys.executable, "evaluate.py", str(results), str(pickled), *arguments]
    done = subprocess.run(command, cwd=official, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"official evaluate.py: {done.stderr[-2000:]}")
    printed = yaml.safe_load(done.stdout)
    return {key.replace("all_", "overall_"): value for key, value in printed.items()}


def scored(path: Path, annotations: Path) -> tuple[dict[str, float], float]:
    """Run `epic100 score` on a file; return the figures, and the CPU seconds of its processes."""
    command = [sys.executable, "-m", "epic100", "score", str(path), "--json"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [*command, "--annotations", str(annotations / LABELS)],
        cwd=path.parent,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return json.loads(done.stdout), seconds


def compare_figures(
    official: Path, annotations: Path, folder: Path, some: Iterator, labels: pd.DataFrame
) -> dict[str, dict[str, float]]:
    """Measure each case: the largest difference in percent points, and CPU seconds by file."""
    differences = {}
    for name, verb, noun in some:
        ids = labels["narration_id"].to_numpy(str)
        write_tensors(build(ids, torch.from_numpy(verb), torch.from_numpy(noun)), folder / "a.pt")
        content = {"verb_output": verb, "noun_output": noun, "narration_id": ids.astype(object)}
        (folder / "a.pkl").write_bytes(pickle.dumps(content))
        differences[name] = {"difference": 0.0}
        for file in (folder / "a.pt", folder / "a.pkl"):
            theirs = official_figures(official, annotations, labels, file)
            ours, differences[name][f"cpu {file.suffix}"] = scored(file, annotations)
            worst = max(abs(ours[key] - theirs[key]) for key in theirs)
            differences[name]["difference"] = max(differences[name]["difference"], worst)
        top1 = ours["overall_action_accuracy_at_1"]
        print(f"{name} (top-1 actions {top1:.2f} %): {differences[name]}", flush=True)
    return differences


def demo_case(demo: Path) -> tuple[pd.DataFrame, Iterator]:
    """Read the labels of the demo, and its case: the scores of its submission.pt."""
    labels = pd.read_csv(demo / "annotations" / LABELS)
    entries = read_submission(demo / "results/submission.pt")
    verb, noun = (
        torch.stack([e[f"{task}_output"] for e in entries]).numpy() for task in ("verb", "noun")
    )
    labels = labels.set_index("narration_id", drop=False)
    labels = labels.loc[[e["narration_id"] for e in entries]].reset_index(drop=True)
    return labels, iter([("demo", verb, noun)])


def same_json(official: Path, pt: Path, ours: Path) -> tuple[bool, float]:
    """Run create_submission.py; return whether its JSON is ours, and the MiB of its zip."""
    theirs = ours.with_name("official.zip")
    levels = [f"--sls-{key}={level}" for key, level in SLS.items()]
    command = [sys.executable, "create_submission.py", str(pt), str(theirs), "--force", *levels]
    subprocess.run(command, cwd=official, check=True)
    contents = [zipfile.ZipFile(path).read("test.json") for path in (theirs, ours)]
    return contents[0] == contents[1], theirs.stat().st_size / 2**20


def write_predicted(folder: Path, split: str, ids: list[str], labels: pd.DataFrame | None) -> None:
    """Write a segment list, and predictions with random scores of as many pairs as train has."""
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(97 * 300, generator=generator)[:PAIRS].tolist()
    pairs = [(pair // 300, pair % 300, 1 + i % 7) for i, pair in enumerate(chosen)]
    log_probs = torch.randn(len(ids), PAIRS, generator=generator).mul_(2).log_softmax(1)
    predictions = Predictions(split, ids, log_probs, pairs, 97, 300, {"split": "train"})
    write_predictions(predictions, folder / f"{split}.pt")
    classes = [(-1, -1)] * len(ids)
    if labels is not None:
        classes = list(zip(labels["verb_class"], labels["noun_class"], strict=True))
    with open(folder / f"{split}.txt", "w") as file:
        for name, (verb, noun) in zip(ids, classes, strict=True):
            file.write(f"{name.split('_')[0]}/{name}.MP4 0 9 {verb} {noun} {name}\n")


def timed(step: str, folder: Path, annotations: Path) -> dict[str, float]:
    """Do a step in this process, and measure its seconds and peak MiB."""
    before = peak_mib()
    started = time.perf_counter()
    if step == "evaluate":
        lists = find_lists(annotations / LABELS, dict.fromkeys(LISTS))
        evaluate(
            folder / "val.pt",
            folder / "val.txt",
            folder / "metrics.json",
            lists=lists,
            reduce="max",
        )
    elif step in ("max", "logsumexp"):
        predictions = read_predictions(folder / "test.pt", "test")
        verb, noun, _ = complete_scores(predictions, predictions.narration_ids, step)
        entries = build(predictions.narration_ids, verb, noun)
        write_zip(entries, folder / f"{step}.zip", SLS)
        write_tensors(entries, folder / f"{step}.pt")
    elif step == "check":
        with open(annotations / "EPIC_100_test_timestamps.csv") as file:
            ids = [row["narration_id"] for row in csv.DictReader(file)]
        assert check(read_submission(folder / "max.zip"), ids, 97, 300) == []
    # The rule itself also checks what it wrote.
    else:
        export(
            folder / "test.pt",
            folder / "test.txt",
            folder / "submission.zip",
            split="test",
            reduce="max",
            sls=SLS,
        )
    seconds = time.perf_counter() - started
    return {"seconds": round(seconds, 2), "peak_mib": peak_mib(), "imports_mib": before}


def peak_mib() -> int:
    """Read the peak memory of this process; ru_maxrss would count its parent's, too."""
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
    return round(int(line.split()[1]) / 1024)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--official", type=Path)
    parser.add_argument("--annotations", type=Path)
    parser.add_argument("--demo", type=Path)
    # Each step runs in a process of its own, whose peak memory is measured.
    parser.add_argument("--timed", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.timed:
        step, folder, annotations = options.timed
        return print(json.dumps(timed(step, Path(folder), Path(annotations))))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        annotations = (options.annotations or made_up_annotations(folder)).resolve()
        labels = pd.read_csv(annotations / LABELS)
        test = pd.read_csv(annotations / "EPIC_100_test_timestamps.csv")["narration_id"].tolist()
        write_predicted(folder, "val", labels["narration_id"].tolist(), labels)
        write_predicted(folder, "test", test, None)
        times = {}
        for step in ("max", "logsumexp", "check", "export", "evaluate"):
            command = [sys.executable, __file__, "--timed", step, str(folder), str(annotations)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            times[step] = json.loads(done.stdout.splitlines()[-1])
            print(f"{step}: {times[step]}", flush=True)
        result = {
            "segments": {"val": len(labels), "test": len(test)},
            "fold_and_write": times["max"],
            "times": times,
            "zip_mib": round((folder / "max.zip").stat().st_size / 2**20, 1),
        }
        if options.official:
            official = options.official.resolve()
            result["same_json"], size = same_json(official, folder / "max.pt", folder / "max.zip")
            result["official_zip_mib"] = round(size, 1)
            compared = compare_figures(official, annotations, folder, cases(labels), labels)
            if options.demo:
                lists = (options.demo / "annotations").resolve()
                demo_labels, case = demo_case(options.demo)
                compared |= compare_figures(official, lists, folder, case, demo_labels)
            result["scored"] = compared
            result["largest_difference"] = max(case["difference"] for case in compared.values())
    print(json.dumps(result))


if __name__ == "__main__":
    main()
