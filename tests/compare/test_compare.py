"""`epic100 compare`, its intervals against known figures, and all finished runs on one page."""

import shutil
from dataclasses import replace
from html import escape
from pathlib import Path

import markupsafe
import numpy as np
import pandas as pd
import pytest

from epic100.base.errors import EpicError
from epic100.cli.program import main
from epic100.compare.bootstrap import difference
from epic100.compare.runs import Run, read_runs, what_differs, write_table
from epic100.figures.training import plot_runs
from epic100.model.model_file import TrainedModel, save_model
from epic100.report.compare_page import write_compare_page
from epic100.report.page import read_picture
from epic100.scoring.epoch_table import read_epochs
from epic100.scoring.evaluation import evaluate
from epic100.scoring.outcomes import read_truth
from epic100.scoring.predictions import read_predictions, write_predictions
from epic100.segments.segment_list import read_segments
from support.browser import opened
from support.made_up import PAIRS, ROWS, make_predictions, write_history

LISTS = {
    "tail_verbs": ("annotations/EPIC_100_tail_verbs.csv", "verb\n2\n"),
    "tail_nouns": ("annotations/EPIC_100_tail_nouns.csv", "noun\n1\n"),
    "unseen_participants": (
        "annotations/EPIC_100_unseen_participant_ids_validation.csv",
        "participant_id\nP02\n",
    ),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A run's folder: a list of segments, two predictions of which one is better, lists."""
    (tmp_path / "results/segments").mkdir(parents=True)
    for name, sure in (("a.pt", 0.5), ("b.pt", 3.0)):
        make_predictions(tmp_path, name, "results/segments/val.txt", sure, (97, 300))
    (tmp_path / "annotations").mkdir()
    segments = read_segments(tmp_path / "results/segments/val.txt")
    videos = [Path(path).stem for path in segments["path"]]
    table = segments.assign(video_id=videos, participant_id=[name[:3] for name in videos])
    table.rename(columns={"verb": "verb_class", "noun": "noun_class"}).to_csv(
        tmp_path / "annotations/EPIC_100_validation.csv", index=False
    )
    for path, text in LISTS.values():
        (tmp_path / path).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows_of(text):
    """(group, task) -> the other cells of a printed table."""
    cells = [line.split() for line in text.splitlines()]
    groups = ("overall", "unseen", "tail", "readable")
    return {(row[0], row[1]): row[2:] for row in cells if row and row[0] in groups}


def test_accuracies_are_those_of_metrics_json(folder, capsys):
    assert main(["compare", "a.pt", "b.pt"]) == 0
    rows = rows_of(capsys.readouterr().out)
    assert len(rows) == 12  # Some segments have no scores, so `readable` is there.
    lists = {key: path for key, (path, _) in LISTS.items()}
    for column, name in enumerate(("a.pt", "b.pt"), start=1):
        figures = evaluate(
            name, "results/segments/val.txt", folder / "m.json", lists=lists, reduce="max"
        )
        for (group, task), cells in rows.items():
            assert cells[column] == f"{figures[f'{group}_{task}_accuracy_at_1']:.2f}"
    assert float(rows["overall", "action"][3]) > 10


def test_the_difference_over_the_segments_that_both_predicted_stands_beside_that_over_all(
    folder, capsys
):
    whole = read_predictions("a.pt", "val")
    kept = len(whole.narration_ids) - 3
    fewer = replace(
        whole, narration_ids=whole.narration_ids[:kept], log_probs=whole.log_probs[:kept]
    )
    write_predictions(fewer, folder / "fewer.pt")
    assert main(["compare", "a.pt", "fewer.pt"]) == 0
    rows = rows_of(capsys.readouterr().out)
    assert rows["readable", "action"][0] == str(kept)
    assert float(rows["readable", "action"][3]) == 0.0
    assert int(rows["overall", "action"][0]) > kept


def test_a_group_without_its_list_is_a_dash(folder, capsys):
    (folder / "annotations/EPIC_100_tail_nouns.csv").unlink()
    assert main(["compare", "a.pt", "b.pt"]) == 0
    assert rows_of(capsys.readouterr().out)["tail", "noun"] == ["0", "-", "-", "-", "-", "-"]


@pytest.mark.parametrize(
    "second, words",
    [
        ("none.pt", "none.pt: no such file"),
        ("a.pt", "a.pt and a.pt: are one file; expected those of two runs"),
    ],
)
def test_what_cannot_be_compared_is_one_line(folder, capsys, second, words):
    assert main(["compare", "a.pt", second]) == 1
    assert capsys.readouterr().err == f"error: {words}\n"


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


def test_the_same_model_differs_by_nothing_and_the_same_seed_gives_the_same(data):
    first, second, members, videos = data
    found = difference(first, first, members, videos)
    assert (found.points, found.over_segments, found.over_videos) == (0, (0, 0), (0, 0))
    assert difference(first, second, members, videos) == difference(first, second, members, videos)
    assert difference(first, second, np.zeros_like(members), videos) is None


def test_a_group_in_few_videos_is_of_the_resamples_that_have_it_and_one_of_one_has_no_interval():
    videos, none = np.repeat(np.arange(10), 10), np.zeros(100, bool)
    few, one, alone = videos > 7, videos == 3, np.arange(100) == 30
    assert difference(none, few, few, videos).over_videos == (100, 100)
    found = difference(none, one, one, videos)
    assert found.over_videos is None and found.over_segments == (100, 100)
    assert difference(none, one, alone, videos).over_segments is None


CLASSES = {"verbs": 4, "nouns": 3}


@pytest.fixture
def truth(tmp_path, monkeypatch):
    """Three runs of the same segments, the first with the best scores; read from files."""
    monkeypatch.chdir(tmp_path)
    Path("segments").mkdir()
    make_predictions(Path("segments"))
    first = read_predictions("segments/val.pt", "val")
    for number, name in enumerate(("results", "results/runs/a", "results/runs/b")):
        scores = first.log_probs.clone()
        scores[: 9 * number] = scores[: 9 * number].flip(1)
        path = Path(name) / "predictions/val.pt"
        write_predictions(replace(first, log_probs=scores), path)
        evaluate(path, "segments/val.txt", Path(name) / "metrics.json", lists={}, reduce="max")
        config = {
            "train_cfg": {"max_epochs": number},
            "optim_wrapper": {"optimizer": {"lr": number / 100}},
            "randomness": {"seed": 5 - number},
        }
        # The last run is like a probe, which has no data set of clips.
        if number < 2:
            config |= {"train_dataloader": {"dataset": {"seed": 5 - number}}}
        about = {"split": "train", "epochs": number, "seed": 5 - number}
        save_model(TrainedModel({}, PAIRS, 4, 3, config, about), Path(name) / "model.pth")
    return read_truth("segments/val.txt", {})


def runs_of(truth, *names):
    return read_runs(["results", *(f"results/runs/{name}" for name in names)], truth, CLASSES)


def test_each_run_has_its_figures_its_change_and_the_settings_that_differ(truth):
    runs = runs_of(truth, "a", "b")
    write_table(runs, "compare.tsv")
    rows = pd.read_csv("compare.tsv", sep="\t", dtype=str).to_dict("records")
    assert [row["run"] for row in rows] == ["default", "a", "b"]
    for row, run in zip(rows, runs, strict=True):
        assert row["predicted"] == "35" and row["unseen_verb_accuracy_at_1"] == "-"
        assert row["overall_action_accuracy_at_1"] == (
            f"{run.figures['overall_action_accuracy_at_1']:.2f}"
        )
    assert rows[0]["action_change"] == "-"
    changes = [float(row["action_change"]) for row in rows[1:]]
    assert changes[1] < changes[0] < 0
    assert float(rows[2]["low_over_videos"]) <= changes[1] <= float(rows[2]["high_over_videos"])
    assert float(rows[2]["low_over_segments"]) < changes[1] < float(rows[2]["high_over_segments"])
    assert what_differs(runs) == {
        "train_cfg.max_epochs, trained_on.epochs": ["0", "1", "2"],
        "optim_wrapper.optimizer.lr": ["0.0", "0.01", "0.02"],
        # The seed is named once, though the config has it in several places.
        "trained_on.seed": ["5", "4", "3"],
    }
    assert rows[1]["optim_wrapper.optimizer.lr"] == "0.01"


def test_a_model_made_elsewhere_has_no_settings_and_makes_no_difference(truth):
    Path("results/runs/a/model.pth").unlink()
    shutil.copy("results/runs/b/model.pth", "results/model.pth")
    assert what_differs(runs_of(truth, "a", "b")) == {}


def named(**settings):
    return Run("a", Path("a"), {}, {"heads": "both", "export.reduce": "max"} | settings)


def test_what_a_probe_lacks_as_a_whole_is_one_line():
    backbone = {"model.backbone.type": "X3D", "model.backbone.gamma_w": "1"}
    clips = named(**backbone, **{"custom_hooks.0.type": "A", "custom_hooks.1.type": "B"})
    probe = named(**{"model.type": "Probe"})
    assert what_differs([clips, probe]) == {
        "model.backbone": ["X3D", "-"],
        "custom_hooks": ["set", "-"],
        "model.type": ["-", "Probe"],
    }
    other = named(**backbone | {"model.backbone.gamma_w": "2"})
    differing = what_differs([clips, other, probe])
    assert differing["model.backbone.gamma_w"] == ["1", "2", "-"]
    assert differing["model.backbone"] == ["X3D", "X3D", "-"]


def test_an_interval_over_one_video_is_no_figure(truth):
    one = replace(truth, videos=np.zeros_like(truth.videos))
    runs = read_runs(["results", "results/runs/b"], one, CLASSES)
    write_table(runs, "compare.tsv")
    row = pd.read_csv("compare.tsv", sep="\t", dtype=str).iloc[1]
    assert row["low_over_videos"] == row["high_over_videos"] == "-" != row["low_over_segments"]
    write_compare_page(runs, one, "compare.html", {})
    assert '<td class="n">-</td>' in Path("compare.html").read_text()


@pytest.mark.parametrize(
    "old, new, words",
    [
        ("{", "", "cannot be read"),
        ('"predicted"', '"predictions"', "predicted is missing"),
        ('"segments": 40', '"segments": 41', "is of 41 segments, the list of val now has 40"),
    ],
)
def test_figures_that_cannot_be_shown_name_their_file(truth, old, new, words):
    figures = Path("results/runs/a/metrics.json")
    figures.write_text(figures.read_text().replace(old, new))
    with pytest.raises(EpicError, match=f"results/runs/a/metrics.json: {words}"):
        runs_of(truth, "a")
    with pytest.raises(EpicError, match="no finished run"):
        read_runs([], truth, CLASSES)


ATTACK = "<script>document.title = 'it ran'</script>"


def test_text_of_files_is_escaped(truth):
    runs = runs_of(truth, "a")
    settings = {**runs[1].settings, ATTACK: ATTACK}
    odd = Run(ATTACK, Path(ATTACK), runs[1].figures, settings, runs[1].change)
    write_compare_page([runs[0], odd], truth, "compare.html", {ATTACK: {"training": ATTACK}})
    page = Path("compare.html").read_text()
    assert ATTACK not in page and page.count(markupsafe.escape(ATTACK)) >= 6


@pytest.mark.slow
def test_the_page_fits_a_phone_and_a_screen_and_asks_for_nothing(truth, tmp_path):
    long = "lr0.003_a-setting-with-a-long-name_and-another-one_seed0"
    shutil.copytree("results/runs/a", f"results/runs/{long}")
    Path(f"results/runs/{long}/report.html").touch()
    histories = dict.fromkeys(("default", long), read_epochs(write_history(tmp_path, *ROWS)))
    plot_runs(histories, "curves.svg")
    costs = {long: {"training": "3.4 hours", "prediction": "59.0 minutes"}}
    runs, curves = runs_of(truth, "a", "b", long), read_picture("curves.svg")
    write_compare_page(runs, truth, "compare.html", costs, curves)
    text = escape(Path("compare.html").read_text())
    frames = "".join(f'<iframe width="{w}" srcdoc="{text}"></iframe>' for w in (390, 1440))
    Path("frames.html").write_text(f"<meta charset=utf-8>{frames}")
    with opened(f"file://{tmp_path}/frames.html", tmp_path) as page:
        found = page.run("""return [...document.querySelectorAll('iframe')].map(frame => {
            const page = frame.contentDocument, all = [...page.body.querySelectorAll('*')];
            return [page.documentElement.scrollWidth <= frame.clientWidth,
                    Math.min(...all.map(e => parseFloat(getComputedStyle(e).fontSize))) >= 11,
                    page.querySelectorAll('tr').length > 10,
                    page.querySelector('#curves img').naturalWidth > 300,
                    [...page.querySelectorAll('a')].map(a => a.getAttribute('href'))]});""")
    assert found == [[True, True, True, True, [f"results/runs/{long}/report.html"]]] * 2
    assert [address for address in page.asked if not address.startswith(("file:", "data:"))] == []
