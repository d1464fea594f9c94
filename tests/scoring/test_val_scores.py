"""`epic100 score` and `compare` of files that no run has made, against the official metrics."""

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from epic100.base.torch_file import write_tensors
from epic100.cli.program import main
from epic100.data.official_lists import LISTS
from epic100.scoring.submission_file import build, write_zip
from support.made_up import (
    OFFICIAL,
    SLS,
    TAIL_NOUNS,
    TAIL_VERBS,
    UNSEEN,
    official_case,
    segment_list,
)

VERB, NOUN, VERBS, NOUNS, PEOPLE = official_case()
IDS = [f"{person}_11_{row}" for row, person in enumerate(PEOPLE)]
ARRAYS = {"verb_output": VERB, "noun_output": NOUN, "narration_id": np.array(IDS)}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The official CSVs of these segments, and nothing of a run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "csv").mkdir()
    table = {"narration_id": IDS, "participant_id": PEOPLE, "video_id": PEOPLE + "_11"}
    val = pd.DataFrame(table | {"verb_class": VERBS, "noun_class": NOUNS})
    val.to_csv("csv/EPIC_100_validation.csv", index=False)
    pd.DataFrame({"verb_class": [96], "noun_class": [0]}).to_csv(
        "csv/EPIC_100_train.csv", index=False
    )
    members_of_lists = (TAIL_VERBS, TAIL_NOUNS, UNSEEN)
    for (name, column), members in zip(LISTS.values(), members_of_lists, strict=True):
        pd.DataFrame({column: list(members)}).to_csv(f"csv/{name}", index=False)
    return tmp_path


def score(path, *more):
    """Run the command on a file, and return its exit code."""
    return main(["score", path, "--annotations", "csv/EPIC_100_validation.csv", *more])


# Each type of file is written by its function.
ENTRIES = build(IDS, *map(torch.from_numpy, (VERB, NOUN)))
FILES = {
    "list.pt": lambda path: write_tensors(ENTRIES, path),
    "server.zip": lambda path: write_zip(ENTRIES, path, SLS),
    "dict.pkl": lambda path: path.write_bytes(pickle.dumps(ARRAYS)),
    "reversed.pkl": lambda path: path.write_bytes(
        pickle.dumps({key: column[::-1] for key, column in ARRAYS.items()})
    ),
    "doubles.pt": lambda path: torch.save(ARRAYS | {"verb_output": VERB.astype(float)}, path),
}


@pytest.mark.parametrize("name", FILES)
def test_any_file_has_the_official_evaluator_s_metrics(folder, capsys, name):
    FILES[name](folder / name)
    assert score(name, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    expected = OFFICIAL | {"segments": 400}
    assert found.pop("file") == name and found == pytest.approx(expected, abs=1e-9)
    # The command writes no file.
    assert sorted(path.name for path in folder.iterdir()) == sorted(["csv", name])


def test_a_file_s_metrics_are_a_table(folder, capsys):
    FILES["server.zip"](folder / "a.zip")
    assert score("a.zip") == 0
    title, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert title == ["a.zip:", "400", "segments", "of", "val,", "percent"]
    assert ["overall", "top-1", "29.50", "18.75", "5.25"] in rows


def test_a_partial_run_is_scored_on_its_segments(folder, capsys):
    (folder / "results/segments").mkdir(parents=True)
    segment_list(folder / "results/segments/val.txt", IDS[:5])
    (folder / "config.yaml").write_text("videos: {subset: true}")
    write_tensors(ENTRIES[:5], folder / "five.pt")
    assert main(["score", "five.pt", "--configfile", "config.yaml"]) == 0
    assert capsys.readouterr().out.startswith("five.pt: 5 segments of val")


@pytest.fixture
def avion_dump(folder):
    """What AVION dumps, in the file `avion.pkl`: scores of all pairs of train and val.

    The pairs are sorted as texts.
    """
    pairs = sorted({f"{v}:{n}" for v, n in zip([*VERBS, 96], [*NOUNS, 0], strict=True)})
    targets = [pairs.index(f"{v}:{n}") for v, n in zip(VERBS, NOUNS, strict=True)]
    logits = np.random.RandomState(0).randn(400, len(pairs)).astype(np.float32)
    # In every second segment, the true pair gets by far the highest score.
    logits[np.arange(0, 400, 2), targets[::2]] += 20
    probs = torch.from_numpy(logits).softmax(1).numpy()
    dump = {"logits": logits, "probs": probs, "targets": np.array(targets)}
    (folder / "avion.pkl").write_bytes(pickle.dumps(dump))
    return dump


def test_avion_s_dump_has_its_own_accuracy(avion_dump, capsys):
    assert score("avion.pkl", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    correct = avion_dump["probs"].argmax(axis=1) == avion_dump["targets"]
    assert found["action_head_accuracy_at_1"] == 100 * correct.mean() >= 50
    assert found["overall_action_accuracy_at_1"] >= 50
    assert score("avion.pkl") == 0
    last = f"own scores of actions, top-1: {100 * correct.mean():.2f}\n"
    assert capsys.readouterr().out.endswith(last)


def test_avion_s_dump_needs_val_s_targets(folder, avion_dump, capsys):
    avion_dump["targets"][:] = 0
    (folder / "avion.pkl").write_bytes(pickle.dumps(avion_dump))
    assert score("avion.pkl") == 1
    assert "its targets are not the classes of val" in capsys.readouterr().err


@pytest.mark.usefixtures("avion_dump")
def test_a_dump_of_avion_needs_the_train_csv(folder, capsys):
    (folder / "csv/EPIC_100_train.csv").unlink()
    assert score("avion.pkl") == 1
    assert "csv/EPIC_100_train.csv" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name, write, words",
    [
        pytest.param(
            "a.pt",
            lambda path: write_tensors(ENTRIES[2:], path),
            "missing: 2 segments (P0",
            id="segments are missing",
        ),
        pytest.param(
            "a.pt",
            lambda path: torch.save({"state_dict": {}}, path),
            "expected a list of dicts with",
            id="a model of others",
        ),
        pytest.param(
            "a.pth",
            lambda path: torch.save({"format": "epic100 model 2"}, path),
            "not a predictions file of this version",
            id="a finished model",
        ),
        pytest.param("a.pt", Path.touch, "not scores of segments, or damaged", id="empty"),
        # A file of two gigabytes takes seconds.
        pytest.param(
            "a.pkl",
            lambda path: path.open("wb").truncate(2**31),
            "not scores of segments, or damaged",
            id="two gigabytes",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "a.zip",
            lambda path: path.write_bytes(b"PK\5\6" + bytes(18)),
            "expected exactly one mem",
            id="empty zip",
        ),
        pytest.param(
            "a.zip",
            lambda path: path.write_bytes(b"words"),
            "not a zip file, or a truncated",
            id="text",
        ),
        pytest.param("a.zip", lambda path: None, "no such file", id="no file"),
        pytest.param("run", Path.mkdir, "is a folder; expected .zip, .pt or .pkl", id="folder"),
    ],
)
def test_a_file_without_val_s_scores_is_rejected(folder, capsys, name, write, words):
    write(folder / name)
    assert score(name) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and len(printed.err) < 700
    assert printed.err.startswith(f"error: {name}: ") and words in printed.err


@pytest.mark.parametrize("name", ["list.pt", "dict.pkl", "server.zip"])
def test_scores_given_as_a_model_are_redirected(folder, capsys, name):
    FILES[name](folder / name)
    assert main(["test", name]) == 1
    assert capsys.readouterr().err.endswith(f"for their metrics: epic100 score {name}\n")
