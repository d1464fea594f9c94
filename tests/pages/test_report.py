"""The report of the demo's run, in a browser, on a wide and a narrow screen; Snakemake's own."""

import getpass
import json
import socket

import pytest

from support.browser import opened, violations
from support.checkout import SHORT_DEMO, run_snakemake

FIGURES = {"lengths", "archive", "close_up", "training"}
# The script finds the sizes of all visible texts in CSS pixels, also in drawings, and the texts
# that a drawing cuts off.
TEXTS = """
const sizes = [], cut = [];
for (const image of document.querySelectorAll('.drawing img')) {
    const bytes = Uint8Array.from(atob(image.src.split(',')[1]), c => c.charCodeAt(0));
    const text = new TextDecoder().decode(bytes);
    const svg = new DOMParser().parseFromString(text, 'image/svg+xml').documentElement;
    svg.style.width = image.clientWidth + 'px';
    svg.style.height = 'auto';
    image.after(svg);
}
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node; node = walker.nextNode();) {
    const element = node.parentElement, drawing = element.ownerSVGElement;
    if (!node.textContent.trim() || !element.getClientRects().length) continue;
    const scale = drawing ? Math.hypot(drawing.getScreenCTM().a, drawing.getScreenCTM().b) : 1;
    sizes.push(scale * parseFloat(getComputedStyle(element).fontSize));
    if (!drawing) continue;
    const [box, edge] = [element, drawing].map(e => e.getBoundingClientRect());
    if (box.left < edge.left - 1 || box.right > edge.right + 1
        || box.top < edge.top - 1 || box.bottom > edge.bottom + 1) cut.push(node.textContent);
}
document.querySelectorAll('.drawing svg').forEach(svg => svg.remove());
return {smallest: Math.min(...sizes), count: sizes.length, cut};
"""
IMAGES = """
const images = [...document.images];
await Promise.all(images.map(image => image.decode()));
return images.map(image => image.naturalWidth);
"""


@pytest.fixture(scope="module")
def page(demo, tmp_path_factory):
    """The report of the demo's run, open in a browser."""
    with opened(
        (demo / "results/report.html").as_uri(), tmp_path_factory.mktemp("browser")
    ) as page:
        yield page


@pytest.mark.parametrize("width, columns", [(1440, 3), (390, 1)], ids=["wide screen", "telephone"])
def test_the_report_is_legible_on_a_screen(page, width, columns):
    page.resize(width)
    assert page.run("return document.documentElement.scrollWidth") <= width
    left_edges = page.run("""
        return [...document.querySelectorAll('#results .panel')]
            .filter(panel => innerWidth > 640 || !panel.closest('.swipe'))
            .map(panel => Math.round(panel.getBoundingClientRect().left))""")
    assert len(set(left_edges)) == columns
    # On a telephone examples and figures are rows to swipe, so the page is not long.
    assert page.run("return document.documentElement.scrollHeight") < 6000
    texts = page.run(TEXTS)
    # Text below 11 CSS pixels is hard to read.
    assert texts["smallest"] >= 11 and texts["count"] > 200 and texts["cut"] == []
    figures = page.run("""
        return [...document.querySelectorAll('figure[id]')].map(figure => ({
            id: figure.id,
            title: figure.querySelector('h3').textContent,
            caption: figure.querySelector('figcaption').textContent,
            drawings: [...figure.querySelectorAll('img')].filter(e => e.naturalWidth).length,
        }));""")
    assert {figure["id"] for figure in figures} == FIGURES
    for figure in figures:
        assert figure["drawings"] == 1 and figure["title"]
        assert len(figure["caption"].split()) >= 10


SORTED = """
const table = document.getElementById('T_people');
const texts = () => [...table.tBodies[0].rows].map(row => row.cells[%d].textContent.trim());
const head = table.tHead.rows[0].cells[%d], before = texts();
head.querySelector('button').click();
const falling = texts(), first = head.ariaSort;
head.querySelector('button').click();
return {before, falling, rising: texts(), directions: [first, head.ariaSort]};
"""


@pytest.mark.parametrize("column", [0, 1], ids=["participants", "segments"])
def test_a_click_on_a_header_sorts(page, column):
    found = page.run(SORTED % (column, column))
    value = str if column == 0 else int
    assert found["falling"] == sorted(found["before"], key=value, reverse=True)
    assert found["rising"] == sorted(found["before"], key=value) and len(found["before"]) > 5
    assert found["directions"] == ["descending", "ascending"]


def test_a_table_is_copied_whole(page):
    rows, copied_lines = page.run("""
        const table = document.getElementById('T_people');
        getSelection().selectAllChildren(table);
        return [table.tBodies[0].rows.length, getSelection().toString().split('\\n').length];""")
    # There is a line for the names of the columns, too.
    assert copied_lines > rows > 5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault_in_the_report(page, scheme):
    page.prefer(scheme)
    assert violations(page) == [] and page.errors == []


def test_an_interval_is_on_one_line(page):
    page.resize(390)
    heights = page.run("""
        return [...document.querySelectorAll('.whole, td small')].filter(
            each => / to /.test(each.textContent)).map(each => each.getClientRects().length)""")
    assert len(heights) > 15 and set(heights) == {1}


def test_examples_have_frames(page, demo):
    examples = json.loads((demo / "results/figures/results/examples.json").read_text())
    assert set(examples) == {"most surely right", "most surely wrong", "drawn at random"}
    widths = page.run(IMAGES)
    assert len(widths) == len(FIGURES) + sum(map(len, examples.values())) and min(widths) > 350


def test_the_report_loads_nothing_from_a_network(page, demo):
    report = demo / "results/report.html"
    page.run(IMAGES)
    assert {url for url in page.asked if not url.startswith("data:")} == {report.as_uri()}
    # A mail can have it as an attachment.
    assert report.stat().st_size < 6e6


def test_the_issue_file_names_no_person(demo):
    # The page docs/results.md asks for it.
    text = (demo / "results/summary.txt").read_text()
    assert "readable " in text
    user = getpass.getuser() + "/"
    # Folders of people begin like the last three.
    secrets = (str(demo), user, socket.gethostname(), "/home", "/tmp", "/root")
    assert [secret for secret in secrets if secret in text] == []


def test_snakemake_s_report_has_the_tables(demo, tmp_path):
    report = tmp_path / "report.html"
    run_snakemake("--report", str(report), "--directory", str(demo), "--configfile", *SHORT_DEMO)
    page = report.read_text(encoding="utf-8")
    tables = ("dropped segments", "every class", "summary", "scan of P22")
    assert [table for table in tables if f'"table": "{table}"' not in page] == []


def test_a_lost_benchmark_file_reruns_no_job(demo):
    path = demo / "results/benchmarks/train.tsv"
    content = path.read_text()
    path.unlink()
    try:
        done = run_snakemake("all", "-n", "--directory", str(demo), "--configfile", *SHORT_DEMO)
    finally:
        path.write_text(content)
    assert "Nothing to be done" in done.stdout + done.stderr
