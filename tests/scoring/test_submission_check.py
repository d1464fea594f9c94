"""The problems of a submission and of a zip for the server, and supervision levels."""

import json
import math
import re
import zipfile

import pytest
import torch

from epic100.base.errors import EpicError
from epic100.scoring.submission import check, contradictions
from epic100.scoring.submission_file import read_zip, write_zip
from support.made_up import IDS, SLS, M, V, make_entries


@pytest.fixture
def entries():
    return make_entries()


@pytest.fixture
def content(entries, tmp_path):
    """The content of the test.json of a submission without a problem."""
    write_zip(entries, tmp_path / "good.zip", SLS)
    with zipfile.ZipFile(tmp_path / "good.zip") as archive:
        return json.loads(archive.read("test.json"))


def problems_of(path, text):
    """Write a zip with this text as its test.json, and list its problems, or why it is refused."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("test.json", text)
    try:
        return check(read_zip(path), IDS, V, M)
    except EpicError as error:
        return str(error).splitlines()


@pytest.mark.parametrize("step", [1, -1])
def test_entries_may_be_in_any_order(entries, step):
    assert check(entries[::step], IDS, V, M) == []


def test_a_submission_without_entries_lacks_all_segments():
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
def test_segments_that_vanish_in_the_official_softmax_are_a_hint(entries, added, expected):
    entries[3]["verb_output"] += added
    entries[3]["noun_output"] += added
    assert re.fullmatch(expected, "\n".join(check(entries, IDS, V, M)))


def test_classes_of_a_zip_may_be_in_any_order(content, tmp_path):
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
def test_a_text_that_is_no_submission_is_one_line(content, tmp_path, change, expected):
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
def test_a_supervision_level_that_cannot_be_true_is_one_sentence(sls, split, weights, words):
    levels = dict(zip(("pt", "tl", "td"), sls, strict=True))
    found = contradictions(levels, {"split": split, "load_from": weights})
    assert len(found) == bool(words)
    assert all(sentence.startswith(f"export: sls: {words}") for sentence in found)
