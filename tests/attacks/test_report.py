"""Texts that would run in the browser of whoever opens the reports; paths that name a disk."""

import contextlib
import json
from pathlib import Path

import pytest

from epic100.base.errors import EpicError
from epic100.figures.style import drawing
from epic100.report.provenance import write_provenance
from epic100.report.tidy import tidy
from support.checkout import run_snakemake
from support.chromium import opened
from support.small_report import data_of, make_report

pytestmark = pytest.mark.slow

ATTACK = "</script><script>document.title = 'it ran'</script><!-- "
SNAKEFILE = """
rule table:
    output: report("table.tsv", labels={{"x": {attack!r}}})
    params: url={attack!r}, root="/scratch/lab7/videos"
    run: open(output[0], "w").write("no file /scratch/lab7/videos/P01/P01_01.MP4\\n")
"""


def page_with(value: str) -> str:
    return f'<script id="results">\n    var results = {json.dumps([value])};\n    </script>'


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """A real report of Snakemake's on a job whose parameter, label and table are attacks."""
    folder = tmp_path_factory.mktemp("attacked")
    (folder / "Snakefile").write_text(SNAKEFILE.format(attack=ATTACK))
    run_snakemake("--cores", "1", cwd=folder)
    with contextlib.chdir(folder):
        write_provenance(["table.tsv"], "report.html", snakefile="Snakefile", config={})
    return folder / "report.html"


def test_no_text_of_the_run_ends_its_script_element(report):
    page = report.read_text(encoding="utf-8")
    assert "it ran" in page and "<script>document.title" not in page
    (result,) = data_of(page)["results"].values()
    assert result["labels"] == {"x": ATTACK} and ATTACK[:9] in result["job_properties"]["params"]


def test_a_browser_runs_nothing_of_it(report, tmp_path):
    with opened(report.as_uri(), tmp_path) as page:
        assert page.run("return document.title") == "Snakemake Report"
        assert page.run("return Object.keys(results).length") == 1


def test_the_report_names_no_absolute_path_and_not_whose_run_it_was(report):
    results = data_of(report.read_text(encoding="utf-8"))["results"]
    (result,) = results.values()
    text = json.dumps(results)
    assert "/scratch" not in text and str(report.parent) not in text
    assert ".../videos" in result["job_properties"]["params"]
    shown = json.dumps(list(data_of(tidy(page_with("a /home/lab7/b"), [], "lab7")).values()))
    assert shown == '[["a .../b"]]'


def test_no_text_of_a_run_is_code_on_the_page_of_our_own(tmp_path):
    attack = "</title></svg><script>document.title = 'it ran'</script><img src=x onerror=alert(1)>"
    page = make_report(tmp_path, attack)
    assert "<script" not in page and "<img" not in page and page.count("it ran") > 20
    with opened((tmp_path / "report.html").as_uri(), tmp_path) as shown:
        assert shown.run("return document.title") == "EPIC-KITCHENS-100: report of a run"
        assert shown.run("return document.querySelectorAll('script, img').length") == 0


@pytest.mark.parametrize(
    "text, shown",
    [
        ("/scratch/leuven/vsc40000/videos", ".../videos"),
        ("no file /data/x/P01/P01_01.MP4; more", "no file .../P01_01.MP4; more"),
        ("~/epic/videos", ".../videos"),
        ("/work/run/results/model.pth", "results/model.pth"),
        ("../../lab7/videos", "../../user/videos"),
        ("https://github.com/a/b", "https://github.com/a/b"),
        ("and/or 1/2 </span> //", "and/or 1/2 </span> //"),
        ("data:image/png;base64,aa/bb/cc", "data:image/png;base64,aa/bb/cc"),
    ],
)
def test_a_path_is_shown_from_the_run_s_folder_on_or_by_its_last_part(text, shown):
    assert data_of(tidy(page_with(text), [Path("/work/run")], "lab7"))["results"] == [shown]


def test_a_page_of_another_make_is_an_error(tmp_path):
    with pytest.raises(EpicError, match="no data in script elements"):
        tidy("<html></html>", [], "lab7")


@pytest.mark.parametrize("name", [r"$\frac$", "$x", "a$b$c", r"\int", "&<>"])
def test_a_class_may_be_called_what_matplotlib_would_take_for_a_formula(tmp_path, name):
    with drawing(tmp_path / "a.svg", name, name) as figure:
        figure.add_subplot().set_yticks([0], [name])
    assert (tmp_path / "a.svg").stat().st_size > 1000
