"""The report of the demo's run, opened in a real browser."""

import re

import pytest

from epic100.base.errors import EpicError
from epic100.report.snakemake_report import write_report
from support.chromium import Page, need_chromium

CATEGORIES = ["1 Data", "2 Damage", "3 Training", "4 Results", "5 Performance", "6 Tables"]
# Clicks the eye and the i of every result of every category and looks at what comes up.
WALK = """
const until = async (what) => {
    let found;
    while (!(found = what())) await new Promise(done => setTimeout(done, 20));
    return found;
};
const all = (selector) => [...document.querySelectorAll(selector)];
const shown = () => document.querySelector('#app img:not(nav img)')?.src;
const caption = () => document.querySelector('nav .prose')?.textContent;
await until(() => app);
const seen = {};
for (const [category, parts] of Object.entries(categories)) {
    seen[category] = [];
    for (let place = 0; place < Object.values(parts).flat().length; place++) {
        app.setView({navbarMode: 'menu'});
        (await until(() => all('nav a').find(a => a.textContent.trim() === category))).click();
        const row = await until(() => all('nav tbody tr')[place]);
        const [eye, info] = row.querySelectorAll('a');
        const entry = {label: row.textContent.trim()};
        if (eye.getAttribute('href') === '#') {
            const before = shown();
            eye.click();
            entry.src = await until(() => shown() !== before && shown());
            const image = document.querySelector('#app img:not(nav img)');
            await image.decode();
            const box = image.getBoundingClientRect();
            Object.assign(entry, {width: image.naturalWidth, height: image.naturalHeight,
                                  above: box.top, below: innerHeight - box.bottom});
        }
        info.click();
        entry.caption = await until(caption);
        seen[category].push(entry);
    }
}
return seen;
"""


@pytest.fixture(scope="module")
def report(demo):
    return demo / "results/report.html"


@pytest.fixture(scope="module")
def page(report, tmp_path_factory):
    need_chromium()
    page = Page(report.as_uri(), tmp_path_factory.mktemp("browser") / "profile")
    yield page
    page.close()


@pytest.fixture(scope="module")
def seen(page):
    return page.run(WALK)


@pytest.fixture(scope="module")
def pictures(seen):
    return [entry for rows in seen.values() for entry in rows if "src" in entry]


def test_every_topic_is_in_the_menu_and_has_its_pictures(seen):
    assert sorted(seen) == CATEGORIES
    counts = {name: sum("src" in entry for entry in rows) for name, rows in seen.items()}
    assert counts == dict(zip(CATEGORIES, (3, 3, 1, 5, 1, 0), strict=True))
    tables = {entry["label"] for entry in seen["6 Tables"]}
    assert {"dropped segments", "every class", "summary", "scan of P22"} <= tables


def test_every_picture_is_really_drawn_and_fits_the_window(pictures):
    for entry in pictures:
        assert entry["width"] > 900 and entry["height"] > 150, entry["label"]
        assert entry["above"] >= 0 and entry["below"] >= 0, entry["label"]
    assert len({entry["src"] for entry in pictures}) == len(pictures)


def test_every_picture_and_table_has_a_caption_that_is_text_for_people(seen):
    captions = [entry["caption"] for rows in seen.values() for entry in rows]
    assert min(len(caption.split()) for caption in captions) >= 10
    assert not [caption for caption in captions if re.search(r"\{\{|\}\}|``|snakemake\.", caption)]


def test_the_report_asks_no_network_for_anything(page, seen, report):
    assert {url.partition(":")[0] for url in page.asked} == {"file", "data"}
    assert [url for url in page.asked if url.startswith("file:")] == [report.as_uri()]
    assert report.stat().st_size < 8 * 2**20


def test_a_page_that_asks_the_network_is_caught_at_it(tmp_path):
    need_chromium()
    file = tmp_path / "page.html"
    file.write_text("<html><body><img src='http://127.0.0.1:9/picture.png'></body></html>")
    page = Page(file.as_uri(), tmp_path / "profile")
    assert page.run("return document.images[0].naturalWidth") == 0
    assert "http://127.0.0.1:9/picture.png" in page.asked
    page.close()


def test_a_report_that_cannot_be_made_is_one_error_with_snakemakes_words(tmp_path):
    out = tmp_path / "report.html"
    with pytest.raises(EpicError, match=r"(?s)no report: .*no_such_file"):
        write_report(
            ["no_such_file"], out, snakefile="Snakefile",
            config={"annotations": {"train": "a.csv", "val": "b.csv"}, "videos": {"root": "v"}},
            stylesheet="workflow/report/report.css",
        )  # fmt: skip
    assert not out.exists()
