"""`epic100 compare`, its intervals against known figures, and all finished runs on one page."""

import itertools
import re
import shutil
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from epic100.base.errors import EpicError
from epic100.cli.program import main
from epic100.data.segment_list import read_segments
from epic100.pages.bootstrap import by_video, difference, draw_videos
from epic100.pages.compare import read_runs, what_differs, write_compare_page, write_table
from epic100.scoring.evaluation import evaluate
from epic100.scoring.metrics import TASKS, wilson
from epic100.scoring.outcomes import read_labels
from epic100.scoring.predictions import read_predictions, write_predictions
from support.browser import opened, violations
from support.made_up import PAIRS, ROWS, make_predictions, write_history

CSV = "csv/EPIC_100_validation.csv"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The official CSV of 40 segments without its lists, and two predictions; b.pt is better."""
    monkeypatch.chdir(tmp_path)
    make_predictions(tmp_path, "a.pt", sure=0.5, classes=(97, 300))
    make_predictions(tmp_path, "b.pt", sure=3.0, classes=(97, 300))
    write_csv("val.txt")
    return tmp_path


def write_csv(listed):
    """Write an official CSV of the segments of a list into the working folder."""
    segments = read_segments(listed).rename(columns={"verb": "verb_class", "noun": "noun_class"})
    videos = [Path(path).stem for path in segments["path"]]
    table = segments.assign(video_id=videos, participant_id=[name[:3] for name in videos])
    Path("csv").mkdir()
    table.to_csv(CSV, index=False)


def compared(first, second, capsys):
    """Run the command, and return its cells by group, then by row: `A`, `B`, `B - A`, `segments`.

    A cell is of verbs, nouns or actions, in this order.
    """
    assert main(["compare", first, second, "--annotations", CSV]) == 0
    blocks = capsys.readouterr().out.split("\n\n")[1:]
    rows = {}
    for block in blocks:
        group, *lines = [re.split(r"\s{2,}", line) for line in block.splitlines()]
        rows[group[0]] = {name: cells for name, *cells in lines}
    return rows


def test_segments_that_both_predict_are_a_group(folder, capsys):
    whole = read_predictions("a.pt", "val")
    ids, log_probs = whole.narration_ids[:-3], whole.log_probs[:-3]
    write_predictions(replace(whole, narration_ids=ids, log_probs=log_probs), folder / "fewer.pt")
    rows = compared("a.pt", "fewer.pt", capsys)
    # The first model has predictions of 35 of 40 segments, and the second of 32.
    assert rows["overall"]["segments"] == ["40"] * 3
    assert rows["readable"]["segments"] == ["32"] * 3
    assert rows["readable"]["B - A"] == ["+0.00 (+0.00 to +0.00)"] * 3, "both are the same"


def test_a_better_model_has_a_positive_difference(folder, capsys):
    rows = compared("a.pt", "b.pt", capsys)
    assert float(rows["overall"]["B - A"][2].split()[0]) > 10
    right = float(rows["overall"]["B"][2].split()[0])
    assert rows["overall"]["B"][2].endswith("({:.2f} to {:.2f})".format(*wilson(right, 40)))
    # The lists of tail classes are missing.
    assert rows["tail"] == {"segments": ["0"] * 3} | dict.fromkeys(("A", "B", "B - A"), ["-"] * 3)


@pytest.mark.parametrize(
    "second, words",
    [
        ("none.pt", "none.pt: no such file"),
        ("a.pt", "a.pt and a.pt: are one file; expected those of two runs"),
    ],
    ids=["no such file", "same file"],
)
def test_a_missing_or_same_file_is_rejected(folder, capsys, second, words):
    assert main(["compare", "a.pt", second, "--annotations", CSV]) == 1
    assert capsys.readouterr().err == f"error: {words}\n"


# With so few segments, intervals are wide: percentiles of 3.5 in place of 2.5 would move an end by
# 0.5. With so many samples, random numbers move it by less than 0.45.
SEGMENTS, VIDEOS, SAMPLES = 400, 40, 4000


@pytest.fixture
def hits():
    """Hits of two models, the second of which is better in some videos; a group; the videos."""
    rng = np.random.default_rng(0)
    videos = rng.integers(0, VIDEOS, SEGMENTS)
    better = rng.normal(0.05, 0.08, VIDEOS)[videos]
    first = rng.random(SEGMENTS) < 0.4
    # For 70 % of the segments, both models guess the same.
    guess_the_same = rng.random(SEGMENTS) < 0.7
    second = np.where(guess_the_same, first, rng.random(SEGMENTS) < 0.4 + better)
    in_group = rng.random(SEGMENTS) < 0.3
    return first, second, in_group, videos


def differ(first, second, in_group, videos):
    """Compare two models over a group of segments, from masks of single segments."""
    masks = (first & in_group, second & in_group, in_group)
    counts = [by_video(mask, videos) for mask in masks]
    return difference(*counts, draw_videos(int(videos.max()) + 1))


@pytest.mark.slow
def test_the_interval_draws_videos_one_by_one(hits):
    first, second, in_group, videos = hits
    found = differ(*hits)
    assert found.points == pytest.approx(100 * (second[in_group].mean() - first[in_group].mean()))
    own = [np.flatnonzero(videos == video) for video in range(VIDEOS)]
    drawn_videos = np.random.default_rng(1).integers(0, VIDEOS, (SAMPLES, VIDEOS))
    gain, means = 100 * (second.astype(int) - first), []
    for drawn in drawn_videos:
        sample = np.concatenate([own[video] for video in drawn])
        means.append(gain[sample[in_group[sample]]].mean())
    assert found.interval == pytest.approx(np.percentile(means, (2.5, 97.5)), abs=0.45)


def test_the_same_model_differs_by_nothing(hits):
    first, second, in_group, videos = hits
    found = differ(first, first, in_group, videos)
    assert (found.points, found.interval) == (0, (0, 0))
    assert differ(first, second, np.zeros_like(in_group), videos) is None, "no segment"
    assert differ(*hits) == differ(*hits), "the seed is the same"


# There are ten videos of ten segments each. The second model is right in the group alone.
TEN = np.repeat(np.arange(10), 10)


@pytest.mark.parametrize(
    "in_group, interval",
    [
        # A resample without a segment of the group does not count.
        pytest.param(TEN > 7, (100, 100), id="two videos"),
        pytest.param(TEN == 3, None, id="one video"),
    ],
)
def test_a_group_of_one_video_has_no_interval(in_group, interval):
    found = differ(np.zeros(100, bool), in_group, in_group, TEN)
    assert (found.points, found.interval) == (100, interval)


CLASSES = {"verbs": 97, "nouns": 300}


def settings_of(number):
    """Make the sections of the config of a run, with `train.epochs` left to the recipe in run 0."""
    train = {"epochs": number or None, "seed": 5 - number, "options": {"lr": 0.1} if number else {}}
    content = {"a.py": "same"} | ({"b.py": "c0ffee"} if number else {})
    return {"train": train, "export": {"reduce": "max"}, "content": content}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of three runs, and the true classes of val's segments; no test may change them."""
    folder = tmp_path_factory.mktemp("made")
    with chdir(folder):
        return folder, make_runs()


@pytest.fixture
def labels(made, tmp_path, monkeypatch):
    """The true classes of val's segments; the files of three runs are in the working folder."""
    shutil.copytree(made[0], tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return made[1]


def make_runs():
    """Write three runs into the working folder, and return the true classes.

    The first run has the best scores, and the last one the worst. The last one has no training.
    """
    Path("segments").mkdir()
    first = make_predictions(Path("segments"), classes=(97, 300))
    for number, name in enumerate(("results", "results/runs/a", "results/runs/b")):
        scores = first.log_probs.clone()
        # The scores of some segments get other pairs: none of the first run, 9 and 18 of the next.
        scores[: 9 * number] = scores[: 9 * number].flip(1)
        home = Path(name)
        trained_on = {"gpus": 2, "hardware": "H100"} if number < 2 else {}
        made = replace(first, log_probs=scores, trained_on=trained_on)
        write_predictions(made, home / "predictions/val.pt")
        evaluate(
            home / "predictions/val.pt",
            "segments/val.txt",
            home / "metrics.json",
            lists={},
            reduce="max",
            settings=settings_of(number),
        )
        if number < 2:
            write_history(home, *ROWS)
    return read_labels("segments/val.txt", {})


def runs_of(labels, *names):
    """Read the default run and the runs of these names."""
    return read_runs(["results", *(f"results/runs/{name}" for name in names)], labels, CLASSES)


@pytest.fixture(scope="module")
def compared_runs(made):
    """The comparison of all three runs."""
    with chdir(made[0]):
        return runs_of(made[1], "a", "b")


def test_the_table_of_runs_has_metrics_and_changes(compared_runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    comparison = compared_runs
    write_table(comparison, "compare.tsv")
    rows = pd.read_csv("compare.tsv", sep="\t", na_values="-").to_dict("records")
    assert [row["run"] for row in rows] == ["default", "a", "b"]
    for row, run in zip(rows, comparison.runs, strict=True):
        accuracy = run.metrics["overall_action_accuracy_at_1"]
        assert row["predicted"] == 35 and np.isnan(row["unseen_verb_accuracy_at_1"])
        assert row["overall_action_accuracy_at_1"] == pytest.approx(accuracy, abs=0.01)
    first, second, third = rows
    assert np.isnan(first["action_change"])
    assert third["action_change"] < second["action_change"] < 0
    assert third["low_over_videos"] <= third["action_change"] <= third["high_over_videos"]
    # The epochs take 20 seconds on two GPUs; the last run was not trained here.
    assert (second["time"], pd.isna(third["time"])) == ("0.01 GPU h", True)
    assert second["train.seed"] == 4


def test_differing_keys_show_all_runs_values(compared_runs):
    assert what_differs(compared_runs.runs) == {
        "train.seed": ["5", "4", "3"],
        "train.epochs": ["default", "1", "2"],
        "train.options.lr": ["default", "0.1", "0.1"],
    }


def test_a_missing_section_is_no_difference(compared_runs):
    first, second, last = compared_runs.runs
    elsewhere = replace(first, settings={"export.reduce": '"max"'})
    assert "train.options.lr" not in what_differs([elsewhere, second, last])
    edited = replace(last, settings=last.settings | {"content.b.py": "decaf"})
    assert what_differs([elsewhere, second, edited])["content.b.py"] == ["-", "c0ffee", "decaf"]


def test_a_wrong_run_is_a_line(labels):
    texts = {
        "cut": ("{", "", "metrics.json: cannot be read"),
        "incomplete": ('"predicted"', '"predictions"', "metrics.json: predicted is missing"),
        "longer": (
            '"segments": 40',
            '"segments": 41',
            "metrics.json: is of 41 segments, the list of val now has 40",
        ),
    }
    for name, (old, new, _) in texts.items():
        shutil.copytree("results/runs/a", f"results/runs/{name}")
        metrics = Path(f"results/runs/{name}/metrics.json")
        metrics.write_text(metrics.read_text().replace(old, new))
    Path("results/runs/a/predictions/val.pt").unlink()
    predictions = read_predictions("results/runs/b/predictions/val.pt", "val")
    fewer = replace(predictions, num_verbs=1, pairs=[(0, n, 1) for n, _ in enumerate(PAIRS)])
    write_predictions(replace(fewer, num_nouns=4), "results/runs/b/predictions/val.pt")

    comparison = runs_of(labels, *texts, "a", "b")
    assert [run.name for run in comparison.runs] == ["default"]
    reasons = {name: words for name, (_, _, words) in texts.items()} | {
        "a": "predictions/val.pt: no such file",
        "b": "verb label 2 of row 1 is not one of the 1",
    }
    write_compare_page(comparison, "compare.html")
    page = Path("compare.html").read_text()
    for note, (name, reason) in zip(comparison.notes, reasons.items(), strict=True):
        assert note.startswith(f"not shown: results/runs/{name}: {reason}")
        assert reason in page


def test_a_foreign_run_says_what_it_lacks(compared_runs):
    # The last run was not trained here.
    assert compared_runs.notes == [
        "b: its model was made elsewhere, so it has no time and no curve"
    ]


def test_no_finished_run_is_an_error(labels):
    with pytest.raises(EpicError, match="no finished run"):
        read_runs([], labels, CLASSES)


def test_a_curve_of_zeros_ends_at_one(compared_runs, tmp_path):
    page, run = tmp_path / "compare.html", compared_runs.runs[0]
    zeros = replace(run, history=run.history.assign(loss=0.0))
    write_compare_page(replace(compared_runs, runs=[zeros]), page)
    ticks = re.findall(r'class="y"[^>]*>([^<]*)<', page.read_text())
    assert ticks[:6] == ["0", "0.2", "0.4", "0.6", "0.8", "1"]


ATTACK = "</script><script>document.title = 'it ran'</script>"


@pytest.mark.slow
def test_texts_of_runs_are_escaped_on_the_page(compared_runs, tmp_path):
    first, run, _ = compared_runs.runs
    odd = replace(run, name=ATTACK, settings=run.settings | {f"train.{ATTACK}": ATTACK})
    comparison = replace(compared_runs, runs=[first, odd], notes=[ATTACK])
    write_compare_page(comparison, tmp_path / "compare.html")
    page = (tmp_path / "compare.html").read_text()
    assert ATTACK not in page and page.count("<script") == 3
    with opened(f"file://{tmp_path}/compare.html", tmp_path) as shown:
        assert "side by side" in shown.run("return document.title")
        assert ATTACK in shown.run("return document.body.innerText") and shown.errors == []


@pytest.fixture(scope="module")
def page(made, tmp_path_factory):
    """The page of four runs, one with a long name, in a browser; and their comparison."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(made[0], folder, dirs_exist_ok=True)
    with chdir(folder):
        long = "lr0.003_a-setting-with-a-long-name_and-another-one_seed0"
        shutil.copytree("results/runs/a", f"results/runs/{long}")
        Path(f"results/runs/{long}/report.html").touch()
        comparison = runs_of(made[1], "a", "b", long)
        write_compare_page(comparison, "compare.html")
    with opened(f"file://{folder}/compare.html", folder) as shown:
        yield shown, comparison
    assert shown.errors == []
    assert [url for url in shown.asked if not url.startswith(("file:", "data:"))] == []


CHOOSE = """
const set = (id, value) => {
    const field = document.getElementById(id);
    field.value = value;
    field.dispatchEvent(new Event('change'));
};
"""


@pytest.mark.slow
def test_differences_to_a_baseline_are_the_library_s(page):
    shown, comparison = page
    for baseline, task in itertools.product(range(4), TASKS):
        cells = shown.run(f"""{CHOOSE} set('baseline', {baseline}); set('task', '{task}');
            return data.runs.map((run, i) => document.querySelector(
                `tr[data-run="${{i}}"] [data-change=overall]`).innerText.split('\\n'))""")
        exact = shown.run(f"""return data.runs.map(run => difference(
            data.runs[{baseline}].right['overall_{task}'], run.right['overall_{task}'],
            data.sizes['overall_{task}']))""")
        for run, cell, found in zip(comparison.runs, cells, exact, strict=True):
            key = f"overall_{task}"
            first, second = comparison.runs[baseline].right[key], run.right[key]
            expected = difference(first, second, comparison.sizes[key], comparison.drawn)
            assert found["points"] == pytest.approx(expected.points, abs=1e-9)
            assert found["interval"] == pytest.approx(expected.interval, abs=1e-9)
            if run is not comparison.runs[baseline]:
                assert float(cell[0]) == pytest.approx(expected.points, abs=0.006)


def numbers(text):
    """Read the numbers with decimals in a text."""
    return [float(number) for number in re.findall(r"[-+]?\d+\.\d+", text)]


def overall_cells(browser, run_number, task):
    """Read the cells of a run's overall accuracy, and of its difference to the first run."""
    browser.run(f"{CHOOSE} set('baseline', 0); set('task', '{task}')")
    row = f'tr[data-run="{run_number}"]'
    return [
        browser.run(f"return document.querySelector('{row} [data-{column}=overall]').textContent")
        for column in ("group", "change")
    ]


@pytest.mark.slow
def test_the_command_prints_the_numbers_of_the_page(page, monkeypatch, capsys):
    browser, comparison = page
    monkeypatch.chdir(Path(browser.run("return location.pathname")).parent)
    write_csv("segments/val.txt")
    printed = compared("results", "results/runs/b", capsys)["overall"]
    run_b = [run.name for run in comparison.runs].index("b")
    for task, accuracy, change in zip(TASKS, printed["B"], printed["B - A"], strict=True):
        shown_accuracy, shown_change = overall_cells(browser, run_b, task)
        percent, *interval = numbers(shown_accuracy)
        assert percent == numbers(accuracy)[0]
        # The page writes the intervals of accuracies with one decimal, those of changes with two.
        assert interval == pytest.approx(numbers(accuracy)[1:], abs=0.06)
        assert numbers(shown_change) == pytest.approx(numbers(change), abs=0.011)
        assert len(numbers(change)) == 3, "points, and both ends of the interval"


@pytest.mark.slow
def test_the_headline_says_the_winner_and_certainty(page):
    shown, _ = page
    # The default run is the best, and the next one has 9 segments less at most.
    headline = "return document.getElementById('headline').textContent"
    shown.run(CHOOSE + "set('baseline', 0); set('task', 'action')")
    assert shown.run(headline).startswith("default wins: a, the next, is at -")
    assert shown.run(headline).endswith("the interval excludes 0")
    shown.run(CHOOSE + "set('baseline', 2)")
    assert shown.run(headline).startswith("default wins: +")
    reason = shown.run("return document.getElementById('reason').innerText")
    assert "train.epochs: default (b: 2)" in reason and "train.seed: 5 (b: 3)" in reason
    # A click on a column sorts by it, whatever the baseline.
    names = shown.run("""
        const heads = [...document.querySelectorAll('#runs thead button')];
        heads.find(head => head.textContent.startsWith('train.seed')).click();
        return [...document.querySelectorAll('#runs tbody tr')].map(row => row.dataset.run)""")
    assert names[0] == "0" and names[-1] == "2"


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1024, 1440])
def test_the_runs_page_fits_phone_and_screen(page, width):
    shown, _ = page
    shown.resize(width)
    found = shown.run("""
        const all = [...document.body.querySelectorAll('*')].filter(each => each.innerText);
        return [document.documentElement.scrollWidth,
                Math.min(...all.map(each => parseFloat(getComputedStyle(each).fontSize))),
                document.querySelectorAll('polyline').length,
                [...document.querySelectorAll('a')].map(a => a.getAttribute('href'))]""")
    assert found[0] <= width and found[1] >= 11
    # Three runs were trained here, and have a loss and an accuracy.
    assert found[2] == 6 and len(found[3]) == 1 and found[3][0].endswith("seed0/report.html")
    # Accuracy and difference are beside the name, and a long key of the config makes no high head.
    right, height = shown.run("""
        return [document.querySelector('[data-change=overall]').getBoundingClientRect().right,
                document.querySelector('#runs thead').offsetHeight]""")
    assert right <= width and height < 80
    for scheme in ("light", "dark"):
        shown.prefer(scheme)
        assert violations(shown) == []


@pytest.mark.slow
def test_runs_on_one_video_have_no_interval(labels, tmp_path):
    comparison = read_runs(
        ["results", "results/runs/b"], replace(labels, videos=np.zeros_like(labels.videos)), CLASSES
    )
    write_table(comparison, "compare.tsv")
    row = pd.read_csv("compare.tsv", sep="\t", dtype=str).iloc[1]
    assert row["low_over_videos"] == row["high_over_videos"] == "-"
    assert row["action_change"] != "-"
    write_compare_page(comparison, "compare.html")
    with opened(f"file://{tmp_path}/compare.html", tmp_path) as shown:
        headline = shown.run("return document.getElementById('headline').textContent")
    assert headline.endswith("one video gives no interval")
