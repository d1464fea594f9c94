"""All finished runs in one table and on one page."""

import shutil
from dataclasses import replace
from html import escape
from pathlib import Path

import markupsafe
import numpy as np
import pandas as pd
import pytest

from epic100.base.errors import EpicError
from epic100.compare.runs import Run, read_runs, what_differs, write_table
from epic100.figures.training import plot_runs
from epic100.model.model_file import TrainedModel, save_model
from epic100.report.compare_page import write_compare_page
from epic100.report.page import read_picture
from epic100.scoring.evaluation import evaluate
from epic100.scoring.predictions import read_predictions, write_predictions
from epic100.scoring.truth import read_truth
from epic100.training.epoch_table import read_epochs
from support.chromium import opened
from support.epoch_rows import ROWS, write_history
from support.small_predictions import PAIRS, make_predictions

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
        rate = {"optimizer": {"lr": number / 100}}
        config = {"train_cfg": {"max_epochs": number}, "optim_wrapper": rate}
        about = {"split": "train", "epochs": number}
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
    }
    assert rows[1]["optim_wrapper.optimizer.lr"] == "0.01"


def test_a_model_made_elsewhere_has_no_settings_and_makes_no_difference(truth):
    Path("results/runs/a/model.pth").unlink()
    shutil.copy("results/runs/b/model.pth", "results/model.pth")
    assert what_differs(runs_of(truth, "a", "b")) == {}


def named(**settings):
    return Run("a", Path("a"), {}, {"heads": "both", "export.reduce": "max"} | settings)


def test_a_changed_seed_is_listed_once():
    names = ("train_dataloader.dataset.seed", "randomness.seed", "trained_on.seed")
    runs = [named(**dict.fromkeys(names, seed)) for seed in ("0", "1")]
    assert what_differs(runs) == {names[0]: ["0", "1"]}


def test_what_a_probe_lacks_as_a_whole_is_one_line():
    backbone = {"model.backbone.type": "X3D", "model.backbone.gamma_w": "1"}
    clips = named(**backbone, **{"custom_hooks.0.type": "A", "custom_hooks.1.type": "B"})
    probe = named(**{"model.type": "Probe"})
    assert what_differs([clips, probe]) == {
        "model.backbone": ["X3D", "-"], "custom_hooks": ["set", "-"], "model.type": ["-", "Probe"],
    }  # fmt: skip
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


@pytest.mark.parametrize("break_it, words", [
    (lambda path: path.unlink(), "cannot be read"),
    (lambda path: path.write_text("{"), "cannot be read"),
    (lambda path: path.write_text("[]"), "segments is missing"),
    (lambda path: path.write_text(path.read_text().replace('"segments": 40', '"segments": 41')),
     "is of 41 segments, the list of val now has 40"),
])  # fmt: skip
def test_figures_that_cannot_be_shown_name_their_file(truth, break_it, words):
    break_it(Path("results/runs/a/metrics.json"))
    with pytest.raises(EpicError, match="results/runs/a/metrics.json: ") as caught:
        runs_of(truth, "a")
    assert words in str(caught.value)


def test_no_run_at_all_is_an_error(truth):
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
