"""The problems of a submission and of a zip for the server, and supervision levels."""

import json
import operator
import re
import zipfile
from functools import reduce

import pytest
import torch

from epic100.base.errors import EpicError
from epic100.submission.check import check, contradictions
from epic100.submission.files import read_zip, write_zip
from support.made_up import IDS, SLS, M, V, make_entries


@pytest.fixture
def entries():
    return make_entries()


@pytest.fixture
def path(entries, tmp_path):
    """A zip without a problem."""
    write_zip(entries, tmp_path / "s.zip", SLS)
    return tmp_path / "s.zip"


def problems_of(path):
    """List the problems of a zip, also of one that cannot be read."""
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


def rewrite(path, change):
    """Apply a function to the JSON text of the zip."""
    with zipfile.ZipFile(path) as archive:
        text = archive.read("test.json").decode()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("test.json", change(text))


def set_in(*keys, value):
    """Make a function that sets a value in a JSON text, or removes its key if the value is None."""

    def change(text):
        content = json.loads(text)
        inner = reduce(operator.getitem, keys[:-1], content)
        if value is None:
            del inner[keys[-1]]
        else:
            inner[keys[-1]] = value
        return json.dumps(content)

    return change


def test_classes_of_a_zip_may_be_in_any_order(path):
    assert problems_of(path) == []
    falling = {str(class_id): -1.0 for class_id in reversed(range(M))}
    rewrite(path, set_in("results", IDS[2], "noun", value=falling))
    (line,) = problems_of(path)
    assert line.startswith("hint: noun_output has several classes tied"), "all scores are -1"


R = ("results", IDS[2])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (set_in("version", value="0.1"), "{path}: test.json, \"version\": Input should be '0.2'"),
        (set_in("challenge", value=None), '{path}: test.json, "challenge": Field required'),
        (set_in("sls_td", value=None), '{path}: test.json, "sls_td": Field required'),
        (set_in("sls_pt", value=True), '{path}: test.json, "sls_pt": Input should be a valid int'),
        (set_in("sls_pt", value=6), '{path}: test.json, "sls_pt": Input should be less than or eq'),
        (set_in("t", value=1), '{path}: test.json, "t": Extra inputs are not permitted'),
        (set_in("results", value=None), '{path}: test.json, "results": Field required'),
        (set_in("results", IDS[0], value=None), f"missing: 1 segment ({IDS[0]})"),
        (
            set_in("results", "x", value={}),
            '{path}: test.json, "results.verb": Field required in 1',
        ),
        (
            set_in(*R, "verb", value=None),
            '{path}: test.json, "results.verb": Field required',
        ),
        (
            set_in(*R, "verb", value=[1, 2]),
            '{path}: test.json, "results.verb": Input should be an object in 1 segment (',
        ),
        (
            set_in(*R, "verb", "2", value=None),
            '{path}: test.json, "results.verb": no class 2 among its 4 classes in 1 segment (',
        ),
        (set_in(*R, "verb", "4", value=None), "verb_output has shape [4], expected [5] in 1 segm"),
        (
            set_in(*R, "noun", "0", value="1"),
            "{path}: test.json, \"results.noun\": '1' instead of a number in 1 segment (",
        ),
        (
            set_in(*R, "noun", "0", value=False),
            '{path}: test.json, "results.noun": False instead of a number in 1 segment (',
        ),
        (set_in(*R, "noun", "0", value=1e39), "noun_output holds NaN or infinity in 1 segment"),
        (
            set_in(*R, "noun", "0", value=float("nan")),
            f"noun_output holds NaN or infinity in 1 segment ({IDS[2]})",
        ),
        (
            lambda text: text.replace(IDS[1] + '"', IDS[2] + '"'),
            f"{{path}}: more than one result for 1 segment ({IDS[2]}); expected one",
        ),
        (lambda text: text[:-1], "{path}: test.json: Invalid JSON: EOF while parsing an object"),
        (lambda text: "[]", "{path}: test.json: Input should be an object"),
        (lambda text: text.encode("utf-16"), "{path}: test.json: Invalid JSON: "),
    ],
)
def test_each_problem_of_a_zip_is_reported(change, expected, path):
    rewrite(path, change)
    lines = problems_of(path)
    assert any(line.startswith(expected.format(path=path)) for line in lines), lines
    assert all("\n" not in line for line in lines)


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
