"""The page in a real browser: filters, matrix, clips, timeline, keys; nothing from a network."""

import numpy as np
import pytest

from epic100.scoring.metrics import official_hits
from epic100.scoring.predictions import complete_scores, read_predictions
from support.chromium import opened
from support.small_browse import ATTACK, REASON, make_browse, rows, sources

pytestmark = pytest.mark.slow

READY = """
while (!performance.getEntriesByName('epic-ready').length)
    await new Promise(done => setTimeout(done, 20));
"""
TOOLS = """
const at = id => document.getElementById(id);
const texts = names => [...document.querySelectorAll(names)].map(each => each.innerText);
const wait = () => new Promise(done => requestAnimationFrame(() => setTimeout(done)));
const set = async (name, value) => {
    const field = at('filter').elements[name];
    if (field.type === 'checkbox') field.checked = value; else field.value = value;
    field.dispatchEvent(new Event('input', {bubbles: true}));
    await wait();
};
const clear = async () => { at('filter').reset(); await wait(); await wait(); };
const count = () => parseInt(texts('#summary b')[0]);
"""

# Texts whose contrast with what is behind them is below 4.5 (WCAG 2.2, 1.4.3), or that are small.
LOW = """
const parse = text => {
    const context = document.createElement('canvas').getContext('2d');
    context.fillStyle = text;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
};
const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const light = ([r, g, b]) =>
    0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
const behind = element => {
    const colour = parse(getComputedStyle(element).backgroundColor);
    return colour[3] === 255 ? colour : behind(element.parentElement);
};
const low = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node; node = walker.nextNode();) {
    const e = node.parentElement, style = getComputedStyle(e);
    if (!node.textContent.trim() || !e.getClientRects().length) continue;
    if (e.closest(':disabled, noscript')) continue;
    const [a, b] = [light(parse(style.color)), light(behind(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05), size = parseFloat(style.fontSize);
    if (ratio < 4.5 || size < 11) low.push([node.textContent, ratio, size]);
}
return low;
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory, short_video):
    return make_browse(tmp_path_factory.mktemp("run"), short_video)


@pytest.fixture(scope="module")
def loaded(file, tmp_path_factory):
    with opened(file.as_uri(), tmp_path_factory.mktemp("browser")) as page:
        page.run(READY)
        yield page


@pytest.fixture
def page(loaded):
    """The page without filters, at its first segment, on a wide screen."""
    loaded.resize(1440)
    ask(loaded, "await clear(); at('tab-segments').click(); epic.viewer.show(0, false)")
    yield loaded
    assert loaded.errors == []


def ask(page, script):
    return page.run(TOOLS + script)


@pytest.mark.parametrize("name, value, shown", [
    ("text", "'saying P02'", 10),
    ("participant", "'P18'", 10),
    ("verb", "'2'", 7),
    ("noun", "'0'", 7),
    ("result", "'wrong'", 6),
    ("result", "'right'", 21),
    ("result", "'noun'", 4),
    ("result", "'none'", 3),
    ("reason", "'touches damaged frames'", 3),
    ("reason", "'kept'", 27),
    ("tail", "true", 7),
    ("unseen", "true", 10),
])  # fmt: skip
def test_a_filter_shows_the_segments_that_it_names(page, name, value, shown):
    rows = "document.querySelectorAll('#segment-table .tabulator-row').length"
    count, rows = ask(page, f"await set('{name}', {value}); return [count(), {rows}]")
    assert count == shown and (rows == shown or shown > 15)
    assert ask(page, "await clear(); return count()") == 30


def test_the_five_best_are_those_of_the_official_evaluator(page, file):
    run = sources(file.parents[1])
    ids, truth = [row[0] for row in rows()], list(zip(*(row[3:] for row in rows()), strict=True))
    scores = complete_scores(read_predictions(run["predictions"], "val"), ids, None)
    hits = official_hits(*scores[:2], *map(np.array, truth))
    kept = scores[2].numpy()
    near = kept & hits["action_at_5"] & ~hits["action_at_1"]
    assert ask(page, "await set('result', 'near'); return count()") == near.sum() > 0
    assert ask(page, "await set('result', 'far'); return count()") == (
        (kept & ~hits["action_at_5"]).sum()
    )


def test_accuracies_are_those_of_what_is_shown(page):
    words = ask(page, "await set('participant', 'P18'); return texts('#summary > span')")
    assert ask(page, "return at('official').innerText").endswith("as the leaderboard counts.")
    assert words == [
        "10 of 30 segments", "action 71.4 %", "verb 71.4 %", "noun 71.4 %",
        "right, of 7 with a prediction",
    ]  # fmt: skip


def test_a_cell_of_the_matrix_lists_its_segments(page):
    cell = "#matrix tbody tr:nth-child(1) td:nth-child(3) button"
    ask(page, "at('tab-confusion').click(); await wait()")
    ask(page, f"document.querySelector('{cell}').click(); await wait()")
    assert ask(page, "return at('segments').hidden") is False
    number, words, rows = ask(
        page, "return [count(), at('mix').innerText, texts('#segment-table .tabulator-row')]"
    )
    assert number == len(rows) == 2 and words.startswith("verb: take taken for put <b>down</b>")
    assert all("✗" in row and "put <b>down</b>" in row for row in rows)
    assert (
        ask(page, "at('mix').querySelector('button').click(); await wait(); return count()") == 30
    )


def test_the_matrix_is_of_the_filtered_segments_and_walked_by_arrow_keys(page):
    ask(page, "at('tab-confusion').click(); await set('participant', 'P01')")
    cells = ask(page, "return texts('#matrix tbody td button').filter(Boolean).map(Number)")
    assert sum(cells) == 10
    ask(page, "document.querySelector('#matrix td button:enabled').focus()")
    page.press("ArrowRight")
    assert ask(page, "return document.activeElement.title") == (
        "take taken for put <b>down</b>: 1 of 6"
    )


def test_a_clip_plays_and_the_line_on_the_timeline_moves_with_it(page, file):
    line = "return new DOMMatrix(getComputedStyle(document.querySelector('.line')).transform).m41"
    block = "document.querySelector('.block[data-segment=\"4\"]')"
    ask(page, f"{block}.click()")
    ask(page, "while (at('player').currentTime < 0.3) await new Promise(r => setTimeout(r, 20))")
    assert ask(page, "return at('player').videoWidth") > 0
    assert ask(page, "return at('player').currentSrc").endswith("/clips/P01/P01_11_4.mp4")
    scale = ask(page, f"return {block}.offsetLeft / 12")  # its segment begins at 12 s
    assert ask(page, line) >= 12.2 * scale
    ask(page, "at('player').pause(); at('player').currentTime = 1;"
              "await new Promise(r => at('player').addEventListener('seeked', r, {once: true}));"
              "await wait()")  # fmt: skip
    assert ask(page, line) == pytest.approx(13 * scale, abs=2)


def test_the_five_best_and_the_truth_are_beside_the_clip(page):
    lists = ask(page, "epic.viewer.show(1, false); return texts('#guesses section')")
    actions, verbs, _ = map(str.splitlines, lists)
    assert actions[0] == "actions" and len(actions) == 11 and verbs[0] == "verbs"
    assert actions[1].startswith("✓ take spoon") and actions[2].endswith(" %")
    assert "✓ action right" in ask(page, "return at('badges').innerText")


def test_damage_and_drops_and_the_whole_video_s_prediction_are_on_the_timeline(page):
    ask(page, "epic.viewer.show(29, false)")
    scale = ask(
        page, "return document.querySelector('.block[data-segment=\"28\"]').offsetLeft / 24"
    )
    assert ask(
        page, "const e = document.querySelector('.damage'); return [e.offsetLeft, e.offsetWidth]"
    ) == pytest.approx([27 * scale, 3 * scale], abs=1.5)
    assert ask(page, "return document.querySelectorAll('.block.dropped').length") == 3
    assert REASON in ask(page, "return at('message').innerText + at('badges').innerText")
    ask(page, "epic.viewer.show(10, false)")
    assert ask(page, "return texts('.block.seen')") == ["take plate"]
    assert "snakemake" not in ask(page, "return at('legend').innerText")
    ask(page, "epic.viewer.show(0, false)")
    assert "snakemake results/timeline/P01_11.tsv" in ask(page, "return at('legend').innerText")


def test_a_segment_without_a_clip_and_a_browser_without_h264_get_words_not_a_black_box(page):
    shown = "return [at('player').hidden, at('message').innerText]"
    hidden, words = ask(page, "epic.viewer.show(0, false);" + shown)
    assert hidden and words == "No clip was made of this segment."
    ask(page, "epic.viewer.show(1, false)")
    assert ask(page, shown)[0] is False
    play = "HTMLMediaElement.prototype.canPlayType"
    hidden, words = ask(page, f"const old = {play}; {play} = () => '';"
                              f"epic.viewer.show(2, false); {play} = old; {shown}")  # fmt: skip
    assert hidden and "cannot play H.264" in words and "clips/P01/P01_11_2.mp4" in words


def test_a_clip_that_is_cut_is_said_so(page, file):
    clip = file.parent / "clips/P18/P18_01_6.mp4"
    clip.unlink()
    clip.write_bytes(b"no clip")
    ask(page, "epic.viewer.show(26, false); while (at('message').hidden) await wait()")
    assert "missing or cut" in ask(page, "return at('message').innerText")


def test_keys_move_search_and_clear(page):
    now = "return epic.segments.columns.id[epic.viewer.current()]"
    page.press("ArrowDown", "j")
    assert ask(page, now) == "P01_11_2"
    page.press("k", "ArrowRight", "ArrowRight", "ArrowLeft")
    assert ask(page, now) == "P01_11_2"
    page.press("2")
    assert ask(page, "return at('confusion').hidden") is False
    page.press("/", "P", "1", "8")
    assert ask(page, "await wait(); return count()") == 10
    ask(page, "at('filter').elements.text.blur()")
    page.press("Escape")
    assert ask(page, "await wait(); await wait(); return count()") == 30


def test_the_address_has_the_filters_and_the_segment(page, file, tmp_path):
    ask(page, "await set('participant', 'P18'); epic.viewer.show(22, false)")
    with opened(ask(page, "return location.href"), tmp_path) as other:
        other.run(READY)
        assert ask(other, "return [count(), epic.viewer.current()]") == [10, 22]


def test_names_are_text_whatever_they_are_called(page):
    ask(page, "epic.viewer.show(2, false); at('tab-confusion').click(); await wait()")
    assert ask(page, "return document.title") == "EPIC-KITCHENS-100: what the model sees"
    assert ask(page, "return document.querySelectorAll('img, b b, td b').length") == 0
    assert ATTACK in ask(page, "return at('guesses').innerText")
    assert ATTACK in ask(page, "return texts('#matrix tbody th')")


@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_scrolls_sideways_and_text_is_legible(page, width, scheme):
    page.resize(width)
    page.prefer(scheme)
    for name in ("segments", "videos", "confusion"):
        assert ask(page, f"at('tab-{name}').click(); await wait();"
                         "return document.documentElement.scrollWidth") <= width  # fmt: skip
    assert ask(page, LOW) == []


def test_it_asks_for_files_of_its_folder_only(page, file):
    assert len(page.asked) > 8
    ours = (file.parent.as_uri(), "data:")
    assert [url for url in page.asked if not url.startswith(ours)] == []
