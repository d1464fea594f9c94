"""The data of the page, and the folder with its clips."""

import errno
import json
import os
from unittest.mock import Mock

import numpy as np
import pytest

from epic100.base.atomic import new_folder
from epic100.base.errors import EpicError
from epic100.data.annotations import index_segments, read_annotations
from epic100.data.segment_list import write_segments
from epic100.pages.browse import as_script
from epic100.pages.browse_data import gather
from epic100.scoring.evaluation import evaluate
from support.small_browse import (
    ATTACK,
    NOUNS,
    REASON,
    VERBS,
    VIDEOS,
    make_browse,
    rows,
    sources,
)


@pytest.fixture
def run(tmp_path):
    """The files of a run of 30 segments, as arguments of `gather`."""
    return sources(tmp_path)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """As `run`, but no test may change it."""
    return sources(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def data(files):
    """The data of the page of this run."""
    return gather(VIDEOS, **files)


def test_segments_have_csv_fields_and_drop_reasons(data):
    columns = data["segments"]
    assert columns["id"] == [row[0] for row in rows()]
    assert columns["start"][:3] == [0.0, 3.0, 6.0] and columns["stop"][0] == 4.0
    assert columns["said"][4] == "saying P01_11_4"
    assert [data["videos"]["id"][video] for video in columns["video"]] == [row[1] for row in rows()]
    assert data["verbs"] == VERBS and data["nouns"] == NOUNS
    # The last three are dropped.
    assert columns["reason"] == [-1] * 27 + [0] * 3
    assert data["reasons"] == [{"text": REASON, "kind": "touches damaged frames"}]
    assert (data["tail_verbs"], data["tail_nouns"], data["unseen"]) == ([2], [2], ["P18"])


def test_the_license_is_on_epic_data_alone(files, data):
    assert data["license"].startswith("CC BY-NC")
    assert gather(VIDEOS, **files, data="my kitchen")["license"] == ""


def test_guesses_have_the_accuracy_of_metrics_json(files, data, tmp_path):
    path, guesses = tmp_path / "val.txt", data["runs"][0]
    csv, classes = files["annotations"]["val"], {"verbs": 4, "nouns": 3}
    table = read_annotations(csv, VIDEOS, split=None, classes=classes)
    write_segments(index_segments(table, VIDEOS), path)
    out, predictions = tmp_path / "metrics.json", files["runs"][0].predictions
    metrics = evaluate(predictions, path, out, lists={}, reduce=None)
    assert len(guesses["segment"]) == metrics["predicted"] == 27
    near = pytest.approx(metrics["readable_action_accuracy_at_5"])
    assert 100 * np.mean(guesses["near"]) == near
    assert guesses["official"] == metrics["overall_action_accuracy_at_1"]
    for task in ("verb", "noun"):
        best = np.reshape(guesses[task], (27, data["best"][task]))
        shares = np.reshape(guesses[f"{task}_p"], best.shape)
        label = np.array(data["segments"][task])[guesses["segment"], None]
        accuracy = 100 * (best[:, 0] == label[:, 0]).mean()
        assert accuracy == pytest.approx(metrics[f"readable_{task}_accuracy_at_1"])
        # There are so few classes that all are among the best.
        assert (np.diff(shares) <= 0).all()
        assert np.allclose(shares.sum(axis=1), data["unit"], atol=3)
        assert guesses[f"{task}_truth_p"] == shares[best == label].tolist()


def test_videos_have_damage_and_timeline_in_seconds(data):
    videos = data["videos"]
    assert videos["state"] == ["ok", "not scanned", "damaged"]
    assert videos["damaged"] == [[], [], [[27.03, 30.03]]]
    assert videos["why"][2] == "broken slices" and videos["seconds"] == [40.0, 40.0, 40.0]
    assert data["runs"][0]["timelines"] == [None, [[1.0, 4.5, 0, 0, 0.75]], None]


def test_an_unreadable_video_is_all_damaged(run, tmp_path):
    text = run["scans"][0].read_text().replace("P01_11\tok\t60\t2400", "P01_11\tunreadable\t0\t0")
    run["scans"][0].write_text(text.replace("\t2400\t", "\t0\t"))
    assert gather(VIDEOS, **run)["videos"]["damaged"][0] == [[0.0, 40.0]]


def in_script(text):
    """Read the data of a script that `as_script` wrote."""
    return json.loads(text.removeprefix("window.epicData = ").removesuffix(";\n"))


def test_a_script_of_the_data_holds_no_tag(data):
    text = as_script(data)
    assert "<" not in text and text.isascii()
    assert in_script(text) == data and data["verbs"][2] == ATTACK


@pytest.mark.parametrize(
    "name, old, new, words",
    [
        ("val.csv", "P01_11_3,", "P01_11_33,", "P01_11_3, which is not of the split"),
        ("P02_03.tsv", "4.500", "soon", r"P02_03\.tsv: line 2: .*soon.*make it again"),
    ],
)
def test_a_wrong_list_or_timeline_is_rejected(run, tmp_path, name, old, new, words):
    path = tmp_path / name
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(EpicError, match=words):
        gather(VIDEOS, **run)


def test_predictions_of_other_classes_are_rejected(run):
    run["classes"] = {"verbs": 4, "nouns": 5}
    words = r"val\.pt: scores of 4 verbs and 3 nouns; expected 4 and 5"
    with pytest.raises(EpicError, match=words):
        gather(VIDEOS, **run)


def test_the_folder_has_page_and_clips(tmp_path, monkeypatch):
    page = make_browse(tmp_path, b"clip")
    names = {path.relative_to(page.parent).as_posix() for path in page.parent.rglob("*")}
    assert {"index.html", "data.js", "page.js", "clips/P18/P18_01_0.mp4"} <= names
    data = in_script((page.parent / "data.js").read_text())
    assert data["clips"] == list(range(1, 27)) and data["left_out"] == 0
    made = page.parent / "clips/P18/P18_01_0.mp4"
    source = tmp_path / "made/all/P18_01_0.v0.mp4"
    assert made.samefile(source)
    # A link to another disk is impossible, so the clip is copied.
    monkeypatch.setattr(os, "link", Mock(side_effect=OSError(errno.EXDEV, "another disk")))
    make_browse(tmp_path, b"a copy")
    assert made.read_bytes() == b"a copy" and not made.samefile(source)


@pytest.mark.parametrize(
    "count, placed",
    [
        # Clips of wrong guesses, every fifth, come first.
        pytest.param(4, [5, 10, 15, 20], id="wrong ones"),
        # Next comes the first right guess of each participant.
        pytest.param(8, [1, 5, 10, 11, 15, 20, 21, 25], id="right ones by participant"),
    ],
)
def test_clips_are_placed_up_to_max_mb(tmp_path, caplog, count, placed):
    # There are 26 clips. Each is so long that `count` of them make 1 MB.
    page = make_browse(tmp_path, bytes(10**6 // count), max_mb=1)
    data = in_script((page.parent / "data.js").read_text())
    assert data["clips"] == placed and data["left_out"] == 26 - count
    assert len(list(page.parent.rglob("*.mp4"))) == count
    assert f"{26 - count} of 26 clips do not fit into 1 MB" in caplog.text


def test_an_incomplete_folder_replaces_no_old_one(tmp_path):
    folder = tmp_path / "browse"
    (folder / "old").mkdir(parents=True)
    with pytest.raises(KeyError), new_folder(folder):
        raise KeyError
    assert (os.listdir(tmp_path), os.listdir(folder)) == (["browse"], ["old"])
