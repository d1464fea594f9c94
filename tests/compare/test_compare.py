"""`epic100 compare`: what it reads, prints and refuses; its intervals against known figures."""

import time

import numpy as np
import pytest
import torch

from epic100.cli.program import main
from epic100.compare.bootstrap import difference
from epic100.scoring.evaluation import evaluate
from epic100.scoring.predictions import (
    Predictions,
    complete_scores,
    read_predictions,
    write_predictions,
)
from epic100.segments.segment_list import read_segments, write_segments
from epic100.submission import build, write_pt, write_zip
from support.real_size import real_segments, real_sheet
from support.small_predictions import make_predictions

SLS = {"pt": 2, "tl": 3, "td": 3}
LISTS = {
    "tail_verbs": ("annotations/EPIC_100_tail_verbs.csv", "verb\n2\n"),
    "tail_nouns": ("annotations/EPIC_100_tail_nouns.csv", "noun\n1\n"),
    "unseen_participants": ("annotations/EPIC_100_unseen_participant_ids_validation.csv",
                            "participant_id\nP02\n"),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A run's folder: a list of segments, two predictions of which one is better, lists."""
    (tmp_path / "results/segments").mkdir(parents=True)
    for name, sure in (("a.pt", 0.5), ("b.pt", 3.0)):
        make_predictions(tmp_path, name, "results/segments/val.txt", sure, (97, 300))
    (tmp_path / "annotations").mkdir()
    for path, text in LISTS.values():
        (tmp_path / path).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows_of(text):
    """(group, task) -> the other cells of a printed table."""
    cells = [line.split() for line in text.splitlines()]
    groups = ("overall", "unseen", "tail")
    return {(row[0], row[1]): row[2:] for row in cells if row and row[0] in groups}


def test_accuracies_are_those_of_metrics_json(folder, capsys):
    assert main(["compare", "a.pt", "b.pt"]) == 0
    rows = rows_of(capsys.readouterr().out)
    assert len(rows) == 9
    lists = {key: path for key, (path, _) in LISTS.items()}
    for column, name in enumerate(("a.pt", "b.pt"), start=1):
        figures = evaluate(name, "results/segments/val.txt", folder / "m.json", lists=lists,
                           reduce="max")  # fmt: skip
        for (group, task), cells in rows.items():
            assert cells[column] == f"{figures[f'{group}_{task}_accuracy_at_1']:.2f}"
    assert float(rows["overall", "action"][3]) > 10


def test_submissions_of_the_same_scores_give_the_same_table(folder, capsys):
    ids = read_segments("results/segments/val.txt")["narration_id"].tolist()
    for name in ("a", "b"):
        verb, noun, _ = complete_scores(read_predictions(f"{name}.pt", "val"), ids, "max")
        write_pt(build(ids, verb, noun), folder / f"{name}_sub.pt")
        write_zip(build(ids, verb, noun), folder / f"{name}.zip", SLS)
    tables = []
    for a, b in (("a.pt", "b.pt"), ("a_sub.pt", "b_sub.pt"), ("a.zip", "b.zip"), ("a.pt", "b.zip")):
        assert main(["compare", a, b]) == 0
        tables.append(rows_of(capsys.readouterr().out))
    assert all(table == tables[0] for table in tables)


def test_a_group_without_its_list_is_a_dash(folder, capsys):
    (folder / "annotations/EPIC_100_tail_nouns.csv").unlink()
    assert main(["compare", "a.pt", "b.pt"]) == 0
    assert rows_of(capsys.readouterr().out)["tail", "noun"] == ["0", "-", "-", "-", "-", "-"]


def submission(ids, verbs):
    return lambda path: write_pt(build(ids, torch.zeros(len(ids), verbs),
                                       torch.zeros(len(ids), 300)), path)  # fmt: skip


@pytest.mark.parametrize("name, write, words", [
    ("none.pt", lambda path: None, "none.pt: no such file"),
    ("odd.pt", lambda path: path.write_bytes(b"words"), "odd.pt: not predictions or a submission"),
    ("odd.zip", lambda path: path.write_bytes(b"words"), "odd.zip: not a zip file"),
    ("test.pt", submission(["t1"], 97), "test.pt: missing: 40 segments (s0, s1, s2, ...); expected "
     "a submission of split val"),
    ("nine.pt", submission([f"s{i}" for i in range(40)], 9),
     "nine.pt: verb_output has shape [9], expected [97] in 40 segments (s0, "),
])  # fmt: skip
def test_what_cannot_be_compared_is_one_line(folder, capsys, name, write, words):
    write(folder / name)
    assert main(["compare", "a.pt", name]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {words}")


def test_the_official_val_split_takes_less_than_ten_seconds(folder, capsys):
    table = real_segments(real_sheet(), splits=["val"])
    write_segments(table, folder / "results/segments/val.txt")
    ids = table["narration_id"].tolist()
    verb, noun = np.divmod(np.arange(3568), 300)
    pairs = list(zip(verb.tolist(), noun.tolist(), [1] * 3568, strict=True))
    scores = torch.rand(len(ids), len(pairs)).log_softmax(1)
    write_predictions(Predictions("val", ids, scores, pairs, 97, 300, {}), folder / "a.pt")
    begin = time.process_time()
    assert main(["compare", "a.pt", "a.pt"]) == 0
    assert time.process_time() - begin < 10
    assert "9668 segments" in capsys.readouterr().out


N, VIDEOS = 4000, 40


@pytest.fixture
def data():
    """Hits of two models, of which the second is right more often in some videos; a group."""
    rng = np.random.default_rng(0)
    videos = rng.integers(0, VIDEOS, N)
    better = rng.normal(0.05, 0.08, VIDEOS)[videos]
    first = rng.random(N) < 0.4
    second = np.where(rng.random(N) < 0.7, first, rng.random(N) < 0.4 + better)
    return first, second, rng.random(N) < 0.3, videos


def by_hand(first, second, members, draws):
    """Percentiles of the difference over drawn segment numbers, in percent."""
    gain = 100 * (second.astype(int) - first)
    return np.percentile([gain[rows[members[rows]]].mean() for rows in draws], (2.5, 97.5))


def test_figures_are_the_group_s_means_and_intervals_those_of_resampling_one_by_one(data):
    first, second, members, videos = data
    found = difference(first, second, members, videos)
    assert found.first == pytest.approx(100 * first[members].mean())
    assert found.points == pytest.approx(100 * (second[members].mean() - first[members].mean()))
    assert found.segments == members.sum()
    rng = np.random.default_rng(1)
    segments = (rng.integers(0, N, N) for _ in range(2000))
    assert found.over_segments == pytest.approx(by_hand(first, second, members, segments), abs=0.25)
    own = [np.flatnonzero(videos == video) for video in range(VIDEOS)]
    whole = (
        np.concatenate([own[video] for video in rng.integers(0, VIDEOS, VIDEOS)])
        for _ in range(2000)
    )
    assert found.over_videos == pytest.approx(by_hand(first, second, members, whole), abs=0.4)


def test_segments_that_go_together_by_video_widen_the_interval_over_videos_alone():
    videos = np.repeat(np.arange(20), 100)
    first, second = np.zeros(2000, bool), np.isin(videos, [0, 1, 2, 3, 4])
    found = difference(first, second, np.ones(2000, bool), videos)
    low, high = found.over_segments
    assert 25 - low == pytest.approx(1.96 * 100 * (0.25 * 0.75 / 2000) ** 0.5, rel=0.1)
    assert found.over_videos[1] - found.over_videos[0] > 5 * (high - low)


def test_the_same_model_differs_by_nothing_and_the_same_seed_gives_the_same(data):
    first, second, members, videos = data
    found = difference(first, first, members, videos)
    assert (found.points, found.over_segments, found.over_videos) == (0, (0, 0), (0, 0))
    assert difference(first, second, members, videos) == difference(first, second, members, videos)
    assert difference(first, second, np.zeros_like(members), videos) is None


def test_a_group_in_few_videos_is_compared_in_the_resamples_that_have_it():
    videos = np.repeat(np.arange(10), 10)
    group = videos > 7
    first, second = np.zeros(100, bool), group
    assert difference(first, second, group, videos).over_videos == (100, 100)


def test_an_interval_of_a_group_of_one_is_none():
    videos = np.repeat(np.arange(10), 10)
    first, second, alone = np.zeros(100, bool), videos == 3, np.arange(100) == 30
    found = difference(first, second, videos == 3, videos)
    assert found.over_videos is None and found.over_segments == (100, 100)
    assert difference(first, second, alone, videos).over_segments is None
