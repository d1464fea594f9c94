"""Files of a submission: written, read in every layout, and checked; supervision levels."""

import json
import math
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from epic100.base.errors import EpicError
from epic100.base.torch_file import write_tensors
from epic100.cli.program import main
from epic100.scoring.submission import check, contradictions
from epic100.scoring.submission_file import entries_of, read_submission, read_zip, write_zip
from support.crafted import saved
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


def test_a_pt_file_reads_as_written(entries, tmp_path):
    write_tensors(entries, tmp_path / "s.pt")
    assert_same(read_submission(tmp_path / "s.pt"), entries)
    for entry in torch.load(tmp_path / "s.pt", weights_only=True):
        assert set(entry) == {"narration_id", "verb_output", "noun_output"}
        # A segment has a storage of its own; a score has four bytes.
        assert entry["verb_output"].untyped_storage().nbytes() == 4 * V
        assert entry["noun_output"].untyped_storage().nbytes() == 4 * M


def test_the_zip_has_the_official_code_s_text(entries, tmp_path):
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
def test_rejected_levels_leave_no_zip(entries, tmp_path, sls):
    with pytest.raises(EpicError, match="`export: sls:` is"):
        write_zip(entries, tmp_path / "s.zip", sls)
    assert list(tmp_path.iterdir()) == []


VERB, NOUN = scores()
TENSORS = {"verb_output": VERB, "noun_output": NOUN, "narration_id": IDS}
ARRAYS = {key: np.asarray(value) for key, value in TENSORS.items()}


LISTS = [entry | {"verb_output": entry["verb_output"].tolist()} for entry in make_entries()]
ROWS = [{key: value[i] for key, value in ARRAYS.items()} for i in range(N)]
OBJECTS = ARRAYS | {"narration_id": np.array(IDS, dtype=object)}


@pytest.mark.parametrize(
    "name, data",
    [
        pytest.param("s.pkl", pickle.dumps(TENSORS), id="dict"),
        pytest.param("s.pkl", pickle.dumps(LISTS), id="list"),
        pytest.param("s.pkl", pickle.dumps(ROWS), id="list of arrays"),
        pytest.param("s.pkl", pickle.dumps(OBJECTS), id="as PySlowFast has it"),
        pytest.param("s.pkl", pickle.dumps(ARRAYS, protocol=2), id="pickle of Python 2"),
        pytest.param("s.pt", saved(ARRAYS), id="pt file"),
    ],
)
def test_official_layouts_are_read(entries, tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
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
def test_another_layout_is_reported(content):
    with pytest.raises(EpicError, match=r"s\.pt: expected a list of dicts with narration_id"):
        entries_of(content, "s.pt")


@pytest.mark.parametrize(
    "name, write, code, expected",
    [
        pytest.param(
            "s.zip",
            lambda path: write_zip(make_entries()[1:], path, SLS),
            1,
            f"missing: 1 segment ({IDS[0]})\n",
            id="a segment is missing",
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


def test_the_command_finds_a_split_s_csv(entries, tmp_path, annotations, capsys):
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


@pytest.fixture
def content(entries, tmp_path):
    """The content of the test.json of a submission without a problem."""
    write_zip(entries, tmp_path / "good.zip", SLS)
    with zipfile.ZipFile(tmp_path / "good.zip") as archive:
        return json.loads(archive.read("test.json"))


def problems_of(path, text):
    """Write a zip with this text as its test.json, and list its problems, or why it is rejected."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("test.json", text)
    try:
        return check(read_zip(path), IDS, V, M)
    except EpicError as error:
        return str(error).splitlines()


def test_entries_may_be_in_any_order(entries):
    assert check(entries, IDS, V, M) == check(entries[::-1], IDS, V, M) == []
    assert check([], IDS, V, M) == [f"missing: 20 segments ({IDS[0]}, {IDS[1]}, {IDS[2]}, ...)"]


def test_each_problem_is_one_line_with_its_segments(entries):
    # The first entry is missing, so bad[i] is of segment i + 1.
    bad = [*entries[1:], entries[5] | {"narration_id": "P99_01_0"}, entries[7]]
    bad[1] = bad[1] | {"verb_output": torch.zeros(V - 1)}
    bad[2] = bad[2] | {"verb_output": torch.zeros(1, V)}
    bad[3] = bad[3] | {"noun_output": torch.zeros(M, dtype=torch.float16)}
    bad[6] = bad[6] | {"noun_output": torch.full((M,), torch.inf)}
    bad[8] = bad[8] | {"verb_output": torch.full((V,), -1.0)}
    bad[9] = bad[9] | {"verb_output": torch.tensor([0.0, 0, -1, -2, -3])}
    bad[10] = bad[10] | {"narration_id": 7}
    assert check(bad, IDS, V, M) == [
        "narration_id is not a str: 1 segment (7)",
        f"missing: 2 segments ({IDS[0]}, {IDS[11]})",
        "unexpected: 1 segment (P99_01_0)",
        f"more than one entry for: 1 segment ({IDS[7]})",
        f"verb_output has shape [4], expected [5] in 1 segment ({IDS[2]})",
        f"verb_output has shape [1, 5], expected [5] in 1 segment ({IDS[3]})",
        f"noun_output is float16, expected float32 in 1 segment ({IDS[4]})",
        f"noun_output holds NaN or infinity in 1 segment ({IDS[7]})",
        "hint: verb_output has several classes tied for the highest score in 2 segments"
        f" ({IDS[9]}, {IDS[10]}); all classes in 1 of them",
        f"hint: noun_output has several classes tied for the highest score in 1 segment ({IDS[7]});"
        " all classes in 1 of them",
    ]


@pytest.mark.parametrize(
    "added, expected",
    [
        # An action score of the others is exp(-180). The smallest float32 is exp(-103).
        pytest.param(90, "hint: all action scores become 0 in 19 segments.*", id="others vanish"),
        pytest.param(30, "", id="others are small"),
    ],
)
def test_segments_lost_in_the_softmax_are_told(entries, added, expected):
    entries[3]["verb_output"] += added
    entries[3]["noun_output"] += added
    assert re.fullmatch(expected, "\n".join(check(entries, IDS, V, M)))


def test_a_zip_s_classes_may_be_unordered(content, tmp_path):
    segment = content["results"][IDS[2]]
    segment["noun"] = dict(reversed(segment["noun"].items()))
    assert problems_of(tmp_path / "s.zip", json.dumps(content)) == []


def verb_of(content):
    """Return the scores of verbs of a segment, by class."""
    return content["results"][IDS[2]]["verb"]


@pytest.mark.parametrize(
    "change, expected",
    [
        pytest.param(
            lambda content: content.update(version="0.1"),
            "{path}: test.json, \"version\": Input should be '0.2'",
            id="other version",
        ),
        pytest.param(
            lambda content: content.pop("challenge"),
            '{path}: test.json, "challenge": Field required',
            id="no challenge",
        ),
        pytest.param(
            lambda content: content.pop("sls_td"),
            '{path}: test.json, "sls_td": Field required',
            id="a level is missing",
        ),
        pytest.param(
            lambda content: content.update(sls_pt=True),
            '{path}: test.json, "sls_pt": Input should be a valid int',
            id="a level is a truth value",
        ),
        pytest.param(
            lambda content: content.update(sls_pt=6),
            '{path}: test.json, "sls_pt": Input should be less than or eq',
            id="a level above 5",
        ),
        pytest.param(
            lambda content: content.update(t=1),
            '{path}: test.json, "t": Extra inputs are not permitted',
            id="unknown key",
        ),
        pytest.param(
            lambda content: content.pop("results"),
            '{path}: test.json, "results": Field required',
            id="no results",
        ),
        pytest.param(
            lambda content: content["results"].pop(IDS[0]),
            f"missing: 1 segment ({IDS[0]})",
            id="a segment is missing",
        ),
        pytest.param(
            lambda content: content["results"].update(x={}),
            '{path}: test.json, "results.verb": Field required in 1',
            id="a segment without scores",
        ),
        pytest.param(
            lambda content: content["results"][IDS[2]].update(verb=[1, 2]),
            '{path}: test.json, "results.verb": Input should be an object in 1 segment (',
            id="scores in a list",
        ),
        pytest.param(
            lambda content: verb_of(content).pop("2"),
            '{path}: test.json, "results.verb": no class 2 among its 4 classes in 1 segment (',
            id="a class is missing",
        ),
        pytest.param(
            lambda content: verb_of(content).pop("4"),
            "verb_output has shape [4], expected [5] in 1 segm",
            id="the last class is missing",
        ),
        pytest.param(
            lambda content: verb_of(content).update({"0": "1"}),
            "{path}: test.json, \"results.verb\": '1' instead of a number in 1 segment (",
            id="a score is a text",
        ),
        pytest.param(
            lambda content: verb_of(content).update({"0": False}),
            '{path}: test.json, "results.verb": False instead of a number in 1 segment (',
            id="a score is a truth value",
        ),
        pytest.param(
            lambda content: verb_of(content).update({"0": 1e39}),
            "verb_output holds NaN or infinity in 1 segment",
            id="a score beyond float32",
        ),
        pytest.param(
            lambda content: verb_of(content).update({"0": math.nan}),
            f"verb_output holds NaN or infinity in 1 segment ({IDS[2]})",
            id="a score is NaN",
        ),
    ],
)
def test_each_problem_of_a_zip_is_a_line(content, tmp_path, change, expected):
    change(content)
    lines = problems_of(tmp_path / "s.zip", json.dumps(content))
    expected = expected.format(path=tmp_path / "s.zip")
    assert any(line.startswith(expected) for line in lines), lines


@pytest.mark.parametrize(
    "change, expected",
    [
        pytest.param(
            lambda text: text.replace(IDS[1] + '"', IDS[2] + '"'),
            f"more than one result for 1 segment ({IDS[2]}); expected one",
            id="id twice",
        ),
        pytest.param(
            lambda text: text[:-1],
            "test.json: Invalid JSON: EOF while parsing an object",
            id="end is missing",
        ),
        pytest.param(lambda text: "[]", "test.json: Input should be an object", id="list"),
        pytest.param(
            lambda text: text.encode("utf-16"), "test.json: Invalid JSON: ", id="not in UTF-8"
        ),
    ],
)
def test_a_text_without_submission_is_one_line(content, tmp_path, change, expected):
    (line,) = problems_of(tmp_path / "s.zip", change(json.dumps(content)))
    assert line.startswith(f"{tmp_path / 's.zip'}: {expected}")


K400 = "checkpoints/x3d_s_13x6x1_facebook-kinetics400-rgb_20201027-623825a0.pth"


@pytest.mark.parametrize(
    # The levels are (pt, tl, td): pretraining, training labels and training data.
    "sls, split, weights, words",
    [
        ((2, 3, 3), "train", K400, ""),
        ((2, 3, 4), "trainval", K400, ""),
        ((0, 3, 3), "train", None, ""),
        # VideoMAE learned from Kinetics without labels.
        ((3, 3, 3), "train", "videomae_k400.pth", ""),
        ((1, 3, 3), "train", "imagenet_resnet.pth", ""),
        ((5, 5, 4), "trainval", "private.pth", ""),
        ((0, 4, 3), "train", None, ""),
        ((0, 3, 4), None, None, ""),
        ((2, 3, 3), "train", None, "pt is 2, but the model was trained from scratch: 0"),
        ((0, 3, 3), "train", K400, f"pt is 0, but training started from {K400}: 2 for Kin"),
        ((1, 3, 3), "train", K400, f"pt is 1 (images only), but {K400} learned from vid"),
        ((2, 2, 3), "train", K400, "tl is 2, but start and end of each segment were used: 3"),
        ((2, 3, 3), "trainval", K400, "td is 3, but the model was trained on trainval: 4"),
        ((2, 3, 4), "train", K400, "td is 4, but the model was trained on train: 3"),
        ((2, 3, 5), "trainval", K400, "td is 5, but the model was trained on trainval: 4"),
    ],
)
def test_an_impossible_level_is_one_sentence(sls, split, weights, words):
    levels = dict(zip(("pt", "tl", "td"), sls, strict=True))
    found = contradictions(levels, {"split": split, "load_from": weights})
    assert len(found) == bool(words)
    assert all(sentence.startswith(f"export: sls: {words}") for sentence in found)
