"""Files of a submission: written, read in every layout, and checked by the command."""

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from epic100.base.errors import EpicError
from epic100.base.torch_file import write_tensors
from epic100.cli.program import main
from epic100.scoring.submission_file import read_submission, write_zip
from support.made_up import IDS, SLS, M, N, V, make_entries, scores


@pytest.fixture
def entries():
    return make_entries()


@pytest.fixture
def annotations(tmp_path):
    """The official CSV of val."""
    path = tmp_path / "EPIC_100_validation.csv"
    path.write_text("narration_id,participant_id\n" + "".join(f"{i},P01\n" for i in IDS))
    return path


def assert_same(read, written):
    assert [e["narration_id"] for e in read] == [e["narration_id"] for e in written]
    assert {type(e["narration_id"]) for e in read} == {str}
    for key in ("verb_output", "noun_output"):
        for a, b in zip(read, written, strict=True):
            assert a[key].dtype == torch.float32 and torch.equal(a[key], b[key])


def test_a_pt_file_is_read_as_it_was_written(entries, tmp_path):
    write_tensors(entries, tmp_path / "s.pt")
    assert_same(read_submission(tmp_path / "s.pt"), entries)
    for entry in torch.load(tmp_path / "s.pt", weights_only=True):
        assert set(entry) == {"narration_id", "verb_output", "noun_output"}
        # A segment has a storage of its own; a score has four bytes.
        assert entry["verb_output"].untyped_storage().nbytes() == 4 * V
        assert entry["noun_output"].untyped_storage().nbytes() == 4 * M


def test_the_zip_has_the_text_of_the_official_code(entries, tmp_path):
    entries[0]["verb_output"] = torch.tensor([1e-38, -3.4e38, 0.1, -30.000002, 16777217.0])
    write_zip(entries, tmp_path / "s.zip", SLS)
    results = {
        entry["narration_id"]: {
            task: {str(i): score for i, score in enumerate(entry[f"{task}_output"].tolist())}
            for task in ("verb", "noun")
        }
        for entry in entries
    }
    # The head is that of utils/challenge.py in epic-kitchens/C1-Action-Recognition.
    head = {"version": "0.2", "challenge": "action_recognition", "sls_pt": 2, "sls_tl": 3}
    with zipfile.ZipFile(tmp_path / "s.zip") as archive:
        (member,) = archive.infolist()
        text = archive.read(member).decode()
    assert text == json.dumps({**head, "sls_td": 4, "results": results})
    assert member.filename == "test.json" and member.compress_type == zipfile.ZIP_DEFLATED
    # A fixed date makes equal entries equal bytes.
    assert member.date_time == (1980, 1, 1, 0, 0, 0)


@pytest.mark.parametrize(
    "sls",
    [
        pytest.param({"pt": 2, "tl": 3}, id="td missing"),
        pytest.param(SLS | {"td": 6}, id="above 5"),
        pytest.param(SLS | {"tl": "3"}, id="text"),
        pytest.param(SLS | {"xx": 1}, id="unknown"),
    ],
)
def test_levels_that_the_server_would_refuse_leave_no_zip(entries, tmp_path, sls):
    with pytest.raises(EpicError, match="`export: sls:` is"):
        write_zip(entries, tmp_path / "s.zip", sls)
    assert list(tmp_path.iterdir()) == []


VERB, NOUN = scores()
TENSORS = {"verb_output": VERB, "noun_output": NOUN, "narration_id": IDS}
ARRAYS = {key: np.asarray(value) for key, value in TENSORS.items()}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(TENSORS, id="dict"),
        pytest.param(
            [entry | {"verb_output": entry["verb_output"].tolist()} for entry in make_entries()],
            id="list",
        ),
        pytest.param(ARRAYS, id="dict of arrays"),
        pytest.param(
            ARRAYS | {"narration_id": np.array(IDS, dtype=object)}, id="as PySlowFast has it"
        ),
        pytest.param(
            [{key: value[i] for key, value in ARRAYS.items()} for i in range(N)],
            id="list of arrays",
        ),
    ],
)
def test_official_layouts_are_read_from_pickles_and_from_pt_files(entries, tmp_path, content):
    (tmp_path / "s.pkl").write_bytes(pickle.dumps(content))
    (tmp_path / "old.pkl").write_bytes(pickle.dumps(content, protocol=2))
    torch.save(content, tmp_path / "s.pt")
    for name in ("s.pkl", "old.pkl", "s.pt"):
        assert_same(read_submission(tmp_path / name), entries)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param({"state_dict": {}}, id="model"),
        pytest.param(torch.zeros(3), id="tensor"),
        pytest.param([1, 2], id="list of numbers"),
        pytest.param([{"narration_id": "a", "verb_output": torch.zeros(V)}], id="no nouns"),
        pytest.param(
            [{"narration_id": "a", "verb_output": "x", "noun_output": torch.zeros(M)}], id="text"
        ),
        pytest.param(TENSORS | {"narration_id": ["a"]}, id="one id for all rows"),
    ],
)
def test_another_layout_is_reported(content, tmp_path):
    torch.save(content, tmp_path / "s.pt")
    with pytest.raises(EpicError, match=r"s\.pt: expected a list of dicts with narration_id"):
        read_submission(tmp_path / "s.pt")


@pytest.mark.parametrize(
    "name, write, code, expected",
    [
        pytest.param(
            "s.pt",
            lambda path: write_tensors(make_entries()[1:], path),
            1,
            f"missing: 1 segment ({IDS[0]})\n",
            id="a segment is missing in a pt file",
        ),
        pytest.param(
            "s.zip",
            lambda path: write_zip(make_entries()[1:], path, SLS),
            1,
            f"missing: 1 segment ({IDS[0]})\n",
            id="a segment is missing in a zip",
        ),
        pytest.param(
            "s.txt",
            Path.touch,
            1,
            "{path}: unknown type of file '.txt', expected .pt, .pkl or .zip\n",
            id="unknown suffix",
        ),
        pytest.param(
            "none.zip",
            lambda path: None,
            1,
            "{path}: no such file\n",
            id="no file",
        ),
        pytest.param(
            "empty.pkl",
            Path.touch,
            1,
            "{path}: not scores of segments, or damaged (it is empty); copy or write",
            id="empty file",
        ),
        pytest.param(
            "s.pkl",
            lambda path: path.write_bytes(
                pickle.dumps(ARRAYS | {"noun_output": ARRAYS["noun_output"].astype(np.float64)})
            ),
            1,
            "noun_output is float64, expected float32 in 20 segments",
            id="float64",
        ),
        pytest.param(
            "s.pt",
            lambda path: write_tensors(
                [entry | {"noun_output": torch.zeros(M)} for entry in make_entries()], path
            ),
            0,
            "hint: noun_output has several classes tied for the highest score in 20",
            id="ties",
        ),
    ],
)
def test_the_command_prints_each_problem_on_a_line(
    tmp_path, annotations, capsys, name, write, code, expected
):
    write(tmp_path / name)
    command = ["submission", "check", str(tmp_path / name), "--annotations", str(annotations)]
    assert main([*command, "--num-verbs", str(V), "--num-nouns", str(M)]) == code
    printed = capsys.readouterr().out
    assert printed.startswith(expected.format(path=tmp_path / name))
    assert printed.count("\n") == 1 and printed.endswith("\n")


def test_the_command_finds_the_csv_of_a_split_in_the_config(entries, tmp_path, annotations, capsys):
    write_zip(entries, tmp_path / "s.zip", SLS)
    (tmp_path / "mine.yaml").write_text(
        "annotations: {val: EPIC_100_validation.csv, test: null}\n"
        f"classes: {{verbs: {V}, nouns: {M}}}\n"
    )
    command = ["submission", "check", str(tmp_path / "s.zip"), "--directory", str(tmp_path)]
    mine = ["--configfile", str(tmp_path / "mine.yaml")]
    assert main([*command, *mine, "--split", "val"]) == 0
    assert capsys.readouterr() == ("", f"{tmp_path}/s.zip: ok (0.0 MiB)\n")
    assert main([*command, *mine, "--split", "test"]) == 1
    assert capsys.readouterr().out.startswith("the config has no `annotations: test:`; name")
