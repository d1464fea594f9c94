import json
import pickle
import shutil
import zipfile

import numpy as np
import pytest
import torch

from epic100.base.errors import EpicError
from epic100.base.torch_file import write_tensors
from epic100.cli.program import main
from epic100.submission.files import read_submission, write_zip
from support.made_up import IDS, SLS, M, N, V, make_entries, scores

SIZES = ["--num-verbs", str(V), "--num-nouns", str(M)]


@pytest.fixture
def entries():
    return make_entries()


@pytest.fixture
def annotations(tmp_path):
    path = tmp_path / "EPIC_100_validation.csv"
    path.write_text("narration_id,participant_id\n" + "".join(f"{i},P01\n" for i in IDS))
    return path


@pytest.fixture
def check(annotations, capsys):
    """Runs the command on a file: its exit code, and what it prints."""

    def check(path, *more):
        code = main(
            ["submission", "check", str(path), "--annotations", str(annotations), *SIZES, *more]
        )
        return code, capsys.readouterr().out

    return check


def assert_same(read, written):
    assert [e["narration_id"] for e in read] == [e["narration_id"] for e in written]
    for key in ("verb_output", "noun_output"):
        for a, b in zip(read, written, strict=True):
            assert a[key].dtype == torch.float32 and torch.equal(a[key], b[key])


def test_a_pt_file_reads_back_exactly_without_code_and_every_row_stands_alone(entries, tmp_path):
    write_tensors(entries, tmp_path / "s.pt")
    assert_same(read_submission(tmp_path / "s.pt"), entries)
    for entry in torch.load(tmp_path / "s.pt", weights_only=True):
        assert set(entry) == {"narration_id", "verb_output", "noun_output"}
        assert type(entry["narration_id"]) is str
        assert entry["verb_output"].untyped_storage().nbytes() == 4 * V
        assert entry["noun_output"].untyped_storage().nbytes() == 4 * M


def test_the_zip_is_what_the_official_code_makes_of_the_same_float32(entries, tmp_path):
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


LEVELS = ({"pt": 2, "tl": 3}, SLS | {"td": 6}, SLS | {"tl": "3"}, SLS | {"xx": 1})


@pytest.mark.parametrize("sls", LEVELS)
def test_levels_that_the_server_would_refuse_leave_no_zip(entries, tmp_path, sls):
    with pytest.raises(EpicError, match="`export: sls:` is"):
        write_zip(entries, tmp_path / "s.zip", sls)
    assert list(tmp_path.iterdir()) == []


def columns(change=torch.clone):
    verb, noun = map(change, scores())
    return {"verb_output": verb, "noun_output": noun, "narration_id": IDS}


ARRAYS = {key: np.asarray(value) for key, value in columns(torch.Tensor.numpy).items()}
LISTS = [entry | {"verb_output": entry["verb_output"].tolist()} for entry in make_entries()]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(columns(), id="dict"),
        pytest.param(LISTS, id="list"),
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
def test_both_official_layouts_are_read_with_arrays_and_as_pickles(entries, tmp_path, content):
    (tmp_path / "s.pkl").write_bytes(pickle.dumps(content))
    (tmp_path / "old.pkl").write_bytes(pickle.dumps(content, protocol=2))
    torch.save(content, tmp_path / "s.pt")
    for name in ("s.pkl", "old.pkl", "s.pt"):
        read = read_submission(tmp_path / name)
        assert_same(read, entries)
        assert {type(e["narration_id"]) for e in read} == {str}


def test_the_code_of_a_pickle_is_not_run(tmp_path):
    (tmp_path / "bad.pkl").write_bytes(b"cos\nmkdir\n(V%b\ntR." % bytes(tmp_path / "made"))
    with pytest.raises(EpicError, match=r"bad\.pkl: not scores of .*holds os\.mkdir besides"):
        read_submission(tmp_path / "bad.pkl")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": {}},
        torch.zeros(3),
        [1, 2],
        [{"narration_id": "a", "verb_output": torch.zeros(V)}],
        [{"narration_id": "a", "verb_output": "x", "noun_output": torch.zeros(M)}],
        {"narration_id": ["a"], "verb_output": torch.zeros(2, V), "noun_output": torch.zeros(1, M)},
    ],
)
def test_another_layout_is_reported(content, tmp_path):
    torch.save(content, tmp_path / "s.pt")
    with pytest.raises(EpicError, match=r"s\.pt: expected a list of dicts with narration_id"):
        read_submission(tmp_path / "s.pt")


@pytest.mark.parametrize(
    "name, code, expected",
    [
        ("bad.pt", 1, f"missing: 1 segment ({IDS[0]})\n"),
        ("bad.zip", 1, f"missing: 1 segment ({IDS[0]})\n"),
        ("bad.txt", 1, "{path}: unknown kind of file '.txt', expected .pt, .pkl or .zip\n"),
        ("none.zip", 1, "{path}: no such file\n"),
        ("empty.pkl", 1, "{path}: not scores of segments, or damaged (EOFError); copy or write"),
        ("wide.pkl", 1, "noun_output is float64, expected float32 in 20 segments"),
        ("tied.pt", 0, "hint: noun_output has several classes tied for the highest score in 20"),
    ],
)
def test_the_command_prints_a_line_a_problem_and_fails(
    entries, tmp_path, check, name, code, expected
):
    write_tensors(entries[1:], tmp_path / "bad.pt")
    write_zip(entries[1:], tmp_path / "bad.zip", SLS)
    write_tensors([e | {"noun_output": torch.zeros(M)} for e in entries], tmp_path / "tied.pt")
    wide = ARRAYS | {"noun_output": ARRAYS["noun_output"].astype(np.float64)}
    (tmp_path / "wide.pkl").write_bytes(pickle.dumps(wide))
    for name_of_empty in ("bad.txt", "empty.pkl"):
        (tmp_path / name_of_empty).touch()
    found, said = check(tmp_path / name)
    assert found == code and said.startswith(expected.format(path=tmp_path / name))
    assert said.count("\n") == 1 and said.endswith("\n")


def test_the_command_finds_the_csv_of_a_split_as_snakemake_would(
    entries, tmp_path, annotations, capsys
):
    write_zip(entries, tmp_path / "s.zip", SLS)
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "annotations: {val: EPIC_100_validation.csv, test: null}\n"
        f"classes: {{verbs: {V}, nouns: {M}}}\n"
    )
    where = ["--directory", str(tmp_path), "--configfile", str(mine)]
    assert main(["submission", "check", str(tmp_path / "s.zip"), "--split", "val", *where]) == 0
    assert capsys.readouterr() == ("", f"{tmp_path}/s.zip: ok (0.0 MiB)\n")
    assert main(["submission", "check", str(tmp_path / "s.zip"), "--split", "test", *where]) == 1
    assert capsys.readouterr().out.startswith("the config has no `annotations: test:`; name")
    # Without an overlay the config that ships is taken, whose paths are below the directory.
    (tmp_path / "annotations").mkdir()
    shutil.copy(annotations, tmp_path / "annotations")
    check_one = ["submission", "check", str(tmp_path / "s.zip"), "--split", "val", *where[:2]]
    assert main([*check_one, *SIZES]) == 0
    assert main(check_one) == 1 and "expected [97]" in capsys.readouterr().out
