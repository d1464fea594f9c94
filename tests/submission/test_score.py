"""`epic100 score` and `compare` of files that no run has made, against the official figures."""

import json
import pickle
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch

from epic100.base.torch_file import write_tensors
from epic100.cli.program import main
from epic100.scoring.predictions import write_predictions
from epic100.segments.official_lists import LISTS
from epic100.submission.files import build, write_zip
from support.made_up import SLS, predictions
from support.official_case import OFFICIAL, TAIL_NOUNS, TAIL_VERBS, UNSEEN, official_case

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
    for (name, column), some in zip(LISTS.values(), (TAIL_VERBS, TAIL_NOUNS, UNSEEN), strict=True):
        pd.DataFrame({column: list(some)}).to_csv(f"csv/{name}", index=False)
    return tmp_path


def score(path, *more):
    return main(["score", path, "--annotations", "csv/EPIC_100_validation.csv", *more])


def in_order(order):
    return {key: values[order] for key, values in ARRAYS.items()}


ENTRIES = build(IDS, *map(torch.from_numpy, (VERB, NOUN)))
FILES = {
    "list.pt": lambda path: write_tensors(ENTRIES, path),
    "server.zip": lambda path: write_zip(ENTRIES, path, SLS),
    "dict.pkl": lambda path: path.write_bytes(pickle.dumps(ARRAYS)),
    "shuffled.pkl": lambda path: path.write_bytes(
        pickle.dumps(in_order(np.random.RandomState(0).permutation(400)))
    ),
    "doubles.pt": lambda path: torch.save(ARRAYS | {"verb_output": VERB.astype(float)}, path),
}


@pytest.mark.parametrize("name", FILES)
def test_the_figures_of_any_file_are_those_of_the_official_evaluator(folder, capsys, name):
    FILES[name](folder / name)
    assert score(name, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found.pop("file") == name and found.pop("segments") == 400
    assert found == pytest.approx(OFFICIAL, abs=1e-9)
    assert score(name) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == f"{name}: 400 segments of val, percent".split()
    assert ["overall", "top-1", "29.50", "18.75", "5.25"] in rows
    assert sorted(path.name for path in folder.iterdir()) == sorted(["csv", name])


def avion(targets=None):
    """What AVION dumps: scores of all pairs of train and val, sorted as texts."""
    pairs = sorted({f"{v}:{n}" for v, n in zip([*VERBS, 96], [*NOUNS, 0], strict=True)})
    own = [pairs.index(f"{v}:{n}") for v, n in zip(VERBS, NOUNS, strict=True)]
    logits = np.random.RandomState(0).randn(400, len(pairs)).astype(np.float32)
    logits[np.arange(0, 400, 2), own[::2]] += 20
    probs = torch.from_numpy(logits).softmax(1).numpy()
    return {"logits": logits, "probs": probs, "targets": np.array(targets or own)}


def test_a_dump_of_avion_has_the_official_figures_and_those_of_its_own_scores(folder, capsys):
    (folder / "avion.pkl").write_bytes(pickle.dumps(avion()))
    assert score("avion.pkl", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    hits = avion()["probs"].argmax(axis=1) == avion()["targets"]
    assert found["action_head_accuracy_at_1"] == 100 * hits.mean() >= 50
    assert found["overall_action_accuracy_at_1"] >= 50
    (folder / "avion.pkl").write_bytes(pickle.dumps(avion([0] * 400)))
    assert score("avion.pkl") == 1
    assert "its targets are not the classes of val" in capsys.readouterr().err
    (folder / "csv/EPIC_100_train.csv").unlink()
    assert score("avion.pkl") == 1
    assert "csv/EPIC_100_train.csv" in capsys.readouterr().err


def entries_file(entries, **changes):
    """Writes these entries, with other values of some keys."""
    return lambda path: write_tensors([entry | changes for entry in entries], path)


def zip_with(old, new):
    """Writes the server's zip with another text in place of one in its JSON."""

    def write(path):
        FILES["server.zip"](path)
        with zipfile.ZipFile(path) as archive:
            text = archive.read("test.json").decode()
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("test.json", text.replace(old, new))

    return write


OTHERS = {
    # One of another version was read, and of a doubled id the last.
    "version.zip": (zip_with('"0.2"', '"9.9"'), "\"version\": Input should be '0.2'"),
    "doubled.zip": (
        zip_with(f'"{IDS[1]}"', f'"{IDS[0]}"'),
        f"more than one result for 1 segment ({IDS[0]})",
    ),
    "lacks.pt": (entries_file(ENTRIES[2:]), "missing: 2 segments (P0"),
    "twice.pt": (
        entries_file([*ENTRIES, ENTRIES[3]]),
        f"more than one entry for: 1 segment ({IDS[3]})",
    ),
    "strange.pt": (
        entries_file(build(["x"], *map(torch.from_numpy, (VERB[:1], NOUN[:1])))),
        "unexpecte",
    ),
    "sizes.pt": (
        entries_file(ENTRIES, verb_output=torch.zeros(96)),
        "verb_output has shape [96], expec",
    ),
    "nan.pt": (
        entries_file(ENTRIES, noun_output=torch.full((300,), torch.nan)),
        "noun_output holds NaN",
    ),
    "test.pt": (lambda path: write_predictions(predictions(split="test"), path), "split 'test'"),
    "model.pt": (
        lambda path: torch.save({"state_dict": {}}, path),
        "expected a list of dicts with",
    ),
    "empty.pt": (lambda path: path.touch(), "not scores of segments, or damaged"),
    "empty.zip": (lambda path: path.write_bytes(b"PK\5\6" + bytes(18)), "expected exactly one mem"),
    "text.zip": (lambda path: path.write_bytes(b"words"), "not a zip file, or a truncated"),
    "huge.pkl": (
        lambda path: path.open("wb").truncate(2**31),
        "not scores of segments, or damaged",
    ),
    "none.zip": (lambda path: None, "no such file"),
    "run": (lambda path: path.mkdir(), "is a folder; expected .zip, .pt or .pkl"),
    "finished.pth": (
        lambda path: torch.save({"format": "epic100 model 2"}, path),
        "not a predictions file of this version",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_scores_of_val_is_one_line_and_writes_nothing(folder, capsys, name):
    make, words = OTHERS[name]
    make(folder / name)
    before = set(folder.iterdir())
    assert score(name) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and len(said.err) < 700
    assert said.err.startswith(f"error: {name}: ") and words in said.err
    assert set(folder.iterdir()) == before


def test_files_of_two_labs_are_compared_without_a_run(folder, capsys):
    FILES["dict.pkl"](folder / "a.pkl")
    FILES["server.zip"](folder / "b.zip")
    csv = ["--annotations", "csv/EPIC_100_validation.csv"]
    assert main(["compare", "a.pkl", "b.zip", *csv]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("overall"))
    assert row.split()[2:6] == ["400", "29.50", "29.50", "+0.00"]


@pytest.mark.parametrize("name", ["list.pt", "dict.pkl", "server.zip"])
def test_scores_given_as_a_model_are_told_apart(folder, capsys, name):
    FILES[name](folder / name)
    assert main(["test", name]) == 1
    assert capsys.readouterr().err.endswith(f"for their figures: epic100 score {name}\n")
