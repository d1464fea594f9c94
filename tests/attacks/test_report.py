"""Texts of a run that would be code in a browser or a formula in a figure."""

import pytest

from epic100.pages.figure_style import drawing
from support.browser import opened
from support.small_report import make_report

pytestmark = pytest.mark.slow


def test_no_text_of_a_run_is_code_on_the_page_of_our_own(tmp_path):
    attack = "</title></svg><script>document.title = 'it ran'</script><img src=x onerror=alert(1)>"
    page = make_report(tmp_path, attack)
    assert page.count("<script") == 1, "that of sort.js"
    # The text is on the page, but as text.
    assert "<img src=x" not in page and page.count("it ran") > 20
    with opened((tmp_path / "report.html").as_uri(), tmp_path) as shown:
        assert shown.run("return document.title") == "EPIC-KITCHENS-100: report of a run"
        assert shown.run("return document.querySelectorAll('img[src=x]').length") == 0


@pytest.mark.parametrize("name", [r"$\frac$", "$x", "a$b$c", r"\int", "&<>"])
def test_a_class_may_be_called_what_matplotlib_would_take_for_a_formula(tmp_path, name):
    with drawing(tmp_path / "a.svg", name, name) as figure:
        figure.add_subplot().set_yticks([0], [name])
    # A formula that is wrong would raise an error when the figure is written.
    assert (tmp_path / "a.svg").stat().st_size > 1000
