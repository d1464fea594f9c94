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

CSV = "csv/EPIC_100_validation.csv"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The official CSV of 40 segments without its lists, and two predictions; b.pt is better."""
    monkeypatch.chdir(tmp_path)
    make_predictions(tmp_path, "a.pt", sure=0.5, classes=(97, 300))
    make_predictions(tmp_path, "b.pt", sure=3.0, classes=(97, 300))
    segments = read_segments("val.txt").rename(columns={"verb": "verb_class", "noun": "noun_class"})
    videos = [Path(path).stem for path in segments["path"]]
    table = segments.assign(video_id=videos, participant_id=[name[:3] for name in videos])
    (tmp_path / "csv").mkdir()
    table.to_csv(CSV, index=False)
    return tmp_path


def compared(first, second, capsys):
    """Run the command, and return the other cells of its table by group and task."""
    assert main(["compare", first, second, "--annotations", CSV]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    groups = ("overall", "unseen", "tail", "readable")
    return {(row[0], row[1]): row[2:] for row in rows if row and row[0] in groups}


def test_segments_that_both_models_predict_are_a_group_of_their_own(folder, capsys):
    whole = read_predictions("a.pt", "val")
    ids, log_probs = whole.narration_ids[:-3], whole.log_probs[:-3]
    write_predictions(replace(whole, narration_ids=ids, log_probs=log_probs), folder / "fewer.pt")
    rows = compared("a.pt", "fewer.pt", capsys)
    # The first model has predictions of 35 of 40 segments, and the second of 32. Cell 0 of a row is
    # the number of segments, and cell 3 the difference.
    assert (rows["overall", "action"][0], rows["readable", "action"][0]) == ("40", "32")
    assert float(rows["readable", "action"][3]) == 0.0, "both predictions are the same"


def test_a_better_model_has_a_positive_difference(folder, capsys):
    rows = compared("a.pt", "b.pt", capsys)
    assert float(rows["overall", "action"][3]) > 10
    # The lists of tail classes are missing.
    assert rows["tail", "noun"] == ["0", "-", "-", "-", "-", "-"]


@pytest.mark.parametrize(
    "second, words",
    [
        ("none.pt", "none.pt: no such file"),
        ("a.pt", "a.pt and a.pt: are one file; expected those of two runs"),
    ],
    ids=["no such file", "same file"],
)
def test_a_missing_or_the_same_file_cannot_be_compared(folder, capsys, second, words):
    assert main(["compare", "a.pt", second, "--annotations", CSV]) == 1
    assert capsys.readouterr().err == f"error: {words}\n"


# With so few segments, intervals are wide: percentiles of 3.5 in place of 2.5 would move an end by
# 0.5. With so many samples, random numbers move it by less than 0.35.
SEGMENTS, VIDEOS, SAMPLES = 400, 40, 4000


@pytest.fixture
def hits():
    """The arguments of `difference` for two models, the second of which is better in some videos.

    They are the hits of both models, whether a segment is in the group, and its video.
    """
    rng = np.random.default_rng(0)
    videos = rng.integers(0, VIDEOS, SEGMENTS)
    better = rng.normal(0.05, 0.08, VIDEOS)[videos]
    first = rng.random(SEGMENTS) < 0.4
    # For 70 % of the segments, both models guess the same.
    guess_the_same = rng.random(SEGMENTS) < 0.7
    second = np.where(guess_the_same, first, rng.random(SEGMENTS) < 0.4 + better)
    in_group = rng.random(SEGMENTS) < 0.3
    return first, second, in_group, videos


def interval_of(first, second, in_group, samples):
    """Compute the 95 % interval of the difference, in percent, from samples of segment numbers."""
    gain = 100 * (second.astype(int) - first)
    means = [gain[sample[in_group[sample]]].mean() for sample in samples]
    return pytest.approx(np.percentile(means, (2.5, 97.5)), abs=0.35)


@pytest.mark.slow
def test_intervals_are_those_of_drawing_segments_or_videos_one_by_one(hits):
    first, second, in_group, videos = hits
    found = difference(first, second, in_group, videos)
    assert found.first == pytest.approx(100 * first[in_group].mean())
    assert found.points == pytest.approx(100 * (second[in_group].mean() - first[in_group].mean()))
    assert found.segments == in_group.sum()
    rng = np.random.default_rng(1)
    drawn_segments = rng.integers(0, SEGMENTS, (SAMPLES, SEGMENTS))
    assert found.over_segments == interval_of(first, second, in_group, drawn_segments)
    own = [np.flatnonzero(videos == video) for video in range(VIDEOS)]
    drawn_videos = rng.integers(0, VIDEOS, (SAMPLES, VIDEOS))
    samples = [np.concatenate([own[video] for video in drawn]) for drawn in drawn_videos]
    assert found.over_videos == interval_of(first, second, in_group, samples)


def test_the_same_model_differs_by_nothing(hits):
    first, _, in_group, videos = hits
    found = difference(first, first, in_group, videos)
    assert (found.points, found.over_segments, found.over_videos) == (0, (0, 0), (0, 0))


def test_the_same_seed_gives_the_same_intervals(hits):
    assert difference(*hits) == difference(*hits)


# There are ten videos of ten segments each. The second model is right in the group alone.
TEN = np.repeat(np.arange(10), 10)


@pytest.mark.parametrize(
    "in_group, over_segments, over_videos",
    [
        # A resample without a segment of the group does not count.
        pytest.param(TEN > 7, (100, 100), (100, 100), id="two videos"),
        pytest.param(TEN == 3, (100, 100), None, id="one video"),
        pytest.param(np.arange(100) == 30, None, None, id="one segment"),
    ],
)
def test_a_group_of_one_video_or_segment_has_no_interval(in_group, over_segments, over_videos):
    found = difference(np.zeros(100, bool), in_group, in_group, TEN)
    assert (found.over_segments, found.over_videos) == (over_segments, over_videos)


CLASSES = {"verbs": 4, "nouns": 3}


@pytest.fixture
def truth(tmp_path, monkeypatch):
    """The true classes of val's segments; the files of three runs are in the working folder.

    The first run has the best scores, and the last one the worst.
    """
    monkeypatch.chdir(tmp_path)
    Path("segments").mkdir()
    make_predictions(Path("segments"))
    first = read_predictions("segments/val.pt", "val")
    for number, name in enumerate(("results", "results/runs/a", "results/runs/b")):
        scores = first.log_probs.clone()
        # The scores of some segments get other pairs: none of the first run, 9 and 18 of the next.
        scores[: 9 * number] = scores[: 9 * number].flip(1)
        path = Path(name) / "predictions/val.pt"
        write_predictions(replace(first, log_probs=scores), path)
        evaluate(path, "segments/val.txt", Path(name) / "metrics.json", lists={}, reduce="max")
        config = {
            "train_cfg": {"max_epochs": number},
            "optim_wrapper": {"optimizer": {"lr": number / 100}},
            "randomness": {"seed": 5 - number},
        }
        # The last run has a data set that states no seed.
        if number < 2:
            config |= {"train_dataloader": {"dataset": {"seed": 5 - number}}}
        about = {"split": "train", "epochs": number, "seed": 5 - number}
        save_model(TrainedModel({}, PAIRS, 4, 3, config, about), Path(name) / "model.pth")
    return read_truth("segments/val.txt", {})


def runs_of(truth, *names):
    """Read the default run and the runs of these names."""
    return read_runs(["results", *(f"results/runs/{name}" for name in names)], truth, CLASSES)


def test_the_table_of_runs_has_figures_and_changes(truth):
    runs = runs_of(truth, "a", "b")
    write_table(runs, "compare.tsv")
    rows = pd.read_csv("compare.tsv", sep="\t", na_values="-").to_dict("records")
    assert [row["run"] for row in rows] == ["default", "a", "b"]
    for row, run in zip(rows, runs, strict=True):
        accuracy = run.figures["overall_action_accuracy_at_1"]
        assert row["predicted"] == 35 and np.isnan(row["unseen_verb_accuracy_at_1"])
        assert row["overall_action_accuracy_at_1"] == pytest.approx(accuracy, abs=0.01)
    first, second, third = rows
    assert np.isnan(first["action_change"])
    assert third["action_change"] < second["action_change"] < 0
    assert third["low_over_videos"] <= third["action_change"] <= third["high_over_videos"]
    assert third["low_over_segments"] < third["action_change"] < third["high_over_segments"]
    assert second["optim_wrapper.optimizer.lr"] == 0.01


def test_settings_that_differ_have_the_values_of_all_runs(truth):
    assert what_differs(runs_of(truth, "a", "b")) == {
        "train_cfg.max_epochs, trained_on.epochs": ["0", "1", "2"],
        "optim_wrapper.optimizer.lr": ["0.0", "0.01", "0.02"],
        # The seed is named once, though the config has it in several places.
        "trained_on.seed": ["5", "4", "3"],
    }


def test_a_run_of_a_model_made_elsewhere_differs_in_no_setting(truth):
    Path("results/runs/a/model.pth").unlink()
    shutil.copy("results/runs/b/model.pth", "results/model.pth")
    assert what_differs(runs_of(truth, "a", "b")) == {}


def run_with(settings):
    """Make a run that was trained here with these settings."""
    return Run("a", Path("a"), {}, {"heads": "both", "export.reduce": "max"} | settings)


BACKBONE = {"model.backbone.type": "X3D", "model.backbone.gamma_w": "1"}
X3D = run_with(BACKBONE | {"custom_hooks.0.type": "A", "custom_hooks.1.type": "B"})
WITHOUT_BACKBONE = run_with({"model.type": "Mine"})


def test_a_part_of_the_config_that_a_run_has_not_is_one_setting():
    assert what_differs([X3D, WITHOUT_BACKBONE]) == {
        "model.backbone": ["X3D", "-"],
        "custom_hooks": ["set", "-"],
        "model.type": ["-", "Mine"],
    }


def test_a_setting_that_differs_between_the_other_runs_is_not_left_to_its_part():
    wider = run_with(BACKBONE | {"model.backbone.gamma_w": "2"})
    differing = what_differs([X3D, wider, WITHOUT_BACKBONE])
    assert differing["model.backbone.gamma_w"] == ["1", "2", "-"]
    assert differing["model.backbone"] == ["X3D", "X3D", "-"]


def test_runs_on_one_video_have_no_interval_over_videos(truth):
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
        # The text is damaged, a key is missing, and it is of other segments.
        ("{", "", "cannot be read"),
        ('"predicted"', '"predictions"', "predicted is missing"),
        ('"segments": 40', '"segments": 41', "is of 41 segments, the list of val now has 40"),
    ],
)
def test_wrong_figures_of_a_run_name_their_file(truth, old, new, words):
    figures = Path("results/runs/a/metrics.json")
    figures.write_text(figures.read_text().replace(old, new))
    with pytest.raises(EpicError, match=f"results/runs/a/metrics.json: {words}"):
        runs_of(truth, "a")


def test_runs_are_needed_to_compare_them(truth):
    with pytest.raises(EpicError, match="no finished run"):
        read_runs([], truth, CLASSES)


ATTACK = "<script>document.title = 'it ran'</script>"


def test_texts_of_runs_are_escaped_on_the_page(truth):
    runs = runs_of(truth, "a")
    settings = {**runs[1].settings, ATTACK: ATTACK}
    odd = Run(ATTACK, Path(ATTACK), runs[1].figures, settings, runs[1].change)
    write_compare_page([runs[0], odd], truth, "compare.html", {ATTACK: {"training": ATTACK}})
    page = Path("compare.html").read_text()
    assert ATTACK not in page and page.count(markupsafe.escape(ATTACK)) >= 6


@pytest.mark.slow
def test_the_page_of_runs_fits_a_phone_and_a_screen(truth, tmp_path):
    long = "lr0.003_a-setting-with-a-long-name_and-another-one_seed0"
    shutil.copytree("results/runs/a", f"results/runs/{long}")
    Path(f"results/runs/{long}/report.html").touch()
    histories = dict.fromkeys(("default", long), read_epochs(write_history(tmp_path, *ROWS)))
    plot_runs(histories, "curves.svg")
    costs = {long: {"training": "3.4 hours", "prediction": "59.0 minutes"}}
    runs, curves = runs_of(truth, "a", "b", long), read_picture("curves.svg")
    write_compare_page(runs, truth, "compare.html", costs, curves)
    text = escape(Path("compare.html").read_text())
    # The widths are those of a phone and of a screen.
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
