"""What the page says about a run, and its folder: complete or not at all, within its room."""

import errno
import json
import os
from unittest.mock import Mock

import numpy as np
import pytest

from epic100.base.errors import EpicError
from epic100.base.folders import new_folder
from epic100.browse.content import gather
from epic100.browse.folder import as_script
from epic100.scoring.evaluation import evaluate
from epic100.segments.annotations import index_segments, read_annotations
from epic100.segments.segment_list import write_segments
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
    return sources(tmp_path)


@pytest.fixture
def data(run):
    return gather(VIDEOS, **run)


def test_segments_are_those_of_the_csv_with_names_times_and_reasons(data):
    columns = data["segments"]
    assert columns["id"] == [row[0] for row in rows()]
    assert columns["start"][:3] == [0.0, 3.0, 6.0] and columns["stop"][0] == 4.0
    assert columns["said"][4] == "saying P01_11_4"
    assert [data["videos"]["id"][video] for video in columns["video"]] == [row[1] for row in rows()]
    assert data["verbs"] == VERBS and data["nouns"] == NOUNS
    assert columns["reason"] == [-1] * 27 + [0] * 3
    assert data["reasons"] == [{"text": REASON, "kind": "touches damaged frames"}]
    assert (data["tail_verbs"], data["tail_nouns"], data["unseen"]) == ([2], [2], ["P18"])


def test_the_first_guesses_have_the_accuracy_of_metrics_json(data, run, tmp_path):
    table = read_annotations(
        run["annotations"]["val"], VIDEOS, split=None, num_verbs=4, num_nouns=3
    )
    write_segments(index_segments(table, VIDEOS), tmp_path / "val.txt")
    figures = evaluate(
        run["runs"][0].predictions,
        tmp_path / "val.txt",
        tmp_path / "metrics.json",
        lists={},
        reduce=None,
    )
    columns, guesses = data["segments"], data["runs"][0]
    assert len(guesses["segment"]) == figures["predicted"] == 27
    right = np.ones(27, bool)
    for task in ("verb", "noun"):
        best, shares = (np.reshape(guesses[key], (27, -1)) for key in (task, f"{task}_p"))
        true = np.array(columns[task])[guesses["segment"], None]
        hits = best[:, 0] == true[:, 0]
        right &= hits
        assert 100 * hits.mean() == pytest.approx(figures[f"readable_{task}_accuracy_at_1"])
        assert best.shape[1] == data["best"][task] and (np.diff(shares) <= 0).all()
        assert np.allclose(shares.sum(axis=1), data["unit"], atol=3)  # All classes are here.
        assert guesses[f"{task}_truth_p"] == shares[best == true].tolist()
    assert 100 * right.mean() == pytest.approx(figures["readable_action_accuracy_at_1"])
    near = figures["readable_action_accuracy_at_5"]
    assert 100 * np.mean(guesses["near"]) == pytest.approx(near)
    assert guesses["official"] == figures["overall_action_accuracy_at_1"] != 100 * right.mean()


def test_videos_have_their_damage_and_their_timeline_in_seconds(data):
    videos = data["videos"]
    assert videos["state"] == ["ok", "not scanned", "damaged"]
    assert videos["damaged"] == [[], [], [[27.0, 30.0]]]
    assert videos["why"][2] == "broken slices" and videos["seconds"] == [40.0, 40.0, 40.0]
    assert data["runs"][0]["timelines"] == [None, [[1.0, 4.5, 0, 0, 0.75]], None]


def test_all_of_a_video_that_cannot_be_read_is_damaged(run, tmp_path):
    text = run["scans"][0].read_text().replace("P01_11\tok\t60\t2400", "P01_11\tunreadable\t0\t0")
    run["scans"][0].write_text(text.replace("\t2400\t", "\t0\t"))
    assert gather(VIDEOS, **run)["videos"]["damaged"][0] == [[0.0, 40.0]]


def in_script(text):
    """What a script of `as_script` holds."""
    return json.loads(text.removeprefix("window.epicData = ").removesuffix(";\n"))


def test_a_script_of_it_holds_no_tag_and_gives_the_same_back(data):
    text = as_script(data)
    assert "<" not in text and text.isascii()
    assert in_script(text) == data and data["verbs"][2] == ATTACK


@pytest.mark.parametrize(
    "path, old, new, words",
    [
        (
            lambda run: run["annotations"]["val"],
            "P01_11_3,",
            "P01_11_33,",
            "P01_11_3, which is not of the split",
        ),
        (
            lambda run: run["runs"][0].timelines[0],
            "4.500",
            "soon",
            r"P02_03\.tsv: line 2: .*soon.*make it again",
        ),
    ],
)
def test_predictions_of_other_segments_and_wrong_numbers_are_refused(run, path, old, new, words):
    path(run).write_text(path(run).read_text().replace(old, new))
    with pytest.raises(EpicError, match=words):
        gather(VIDEOS, **run)
    words = r"val\.pt: scores of 4 verbs and 3 nouns; expected 4 and 5"
    with pytest.raises(EpicError, match=words):
        gather(VIDEOS, **run | {"classes": {"verbs": 4, "nouns": 5}})


def test_it_has_the_page_and_a_clip_with_its_label_of_each_predicted_segment(tmp_path, monkeypatch):
    page = make_browse(tmp_path, b"clip")
    names = {path.relative_to(page.parent).as_posix() for path in page.parent.rglob("*")}
    assert {"index.html", "data.js", "grid.js", "clips/P18/P18_01_0.mp4"} <= names
    data = in_script((page.parent / "data.js").read_text())
    assert data["clips"] == list(range(1, 27)) and data["left_out"] == 0
    assert data["labels"] == {str(place): rows()[place][3] for place in data["clips"]}
    made = page.parent / "clips/P18/P18_01_0.mp4"
    source = tmp_path / "clips/val/P18/P18_01_0.mp4"
    assert made.samefile(source)
    monkeypatch.setattr(os, "link", Mock(side_effect=OSError(errno.EXDEV, "another disk")))
    make_browse(tmp_path, b"a copy")
    assert made.read_bytes() == b"a copy" and not made.samefile(source)


@pytest.mark.parametrize(
    "size, kept",
    [
        # Clips of wrong guesses, every fifth, come first.
        (4, [5, 10, 15, 20]),
        # Next comes the first right guess of each participant.
        (8, [1, 5, 10, 11, 15, 20, 21, 25]),
    ],
)
def test_clips_that_do_not_fit_are_left_out_by_guess_and_participant(tmp_path, caplog, size, kept):
    page = make_browse(tmp_path, bytes(10**6 // size), max_mb=1)
    data = in_script((page.parent / "data.js").read_text())
    assert data["clips"] == kept and data["left_out"] == 26 - size
    assert len(list(page.parent.rglob("*.mp4"))) == size
    assert f"{26 - size} of 26 clips do not fit into 1 MB" in caplog.text


def test_the_old_folder_stays_until_the_new_one_is_complete(tmp_path):
    folder = tmp_path / "browse"
    (folder / "old").mkdir(parents=True)
    # A process that was killed left this.
    (tmp_path / ".browse.left.new/clips").mkdir(parents=True)
    with pytest.raises(KeyError), new_folder(folder):
        raise KeyError
    assert (os.listdir(tmp_path), os.listdir(folder)) == (["browse"], ["old"])
    with new_folder(folder) as new:
        (new / "index.html").touch()
    assert (os.listdir(tmp_path), os.listdir(folder)) == (["browse"], ["index.html"])
