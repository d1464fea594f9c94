"""The page of two runs in a real browser: tables, calibration, notes, addresses, accessibility."""

import functools
import http.server
import re
import shutil
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from epic100.pages.bootstrap import by_video, difference, draw_videos
from epic100.scoring.metrics import wilson
from support.browser import ask, at_start, show
from support.small_browse import rows

pytestmark = pytest.mark.slow

# Every fifth guess of the first run is wrong, and every third one of the second run. The last three
# of 30 segments are dropped.
FIRST = np.arange(27) % 5 > 0
SECOND = np.arange(27) % 3 > 0
# Files that the page saves are kept in `saved`, by name.
KEEP = "window.saved = {}; epic.download = (name, text) => { saved[name] = text; };"


@contextmanager
def served(folder):
    """Serve a folder without Range requests, and yield the address."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def page(browser, two_runs):
    """The page of two runs without filters, at its first segment, on a wide screen."""
    yield from at_start(browser, two_runs)


def test_a_row_has_the_guesses_of_both_runs(page):
    # CSS counts rows from 1, so this is the row of segment 4.
    row = "document.querySelector('#segment-table .rows .row:nth-child(5)')"
    cells = ask(page, f"return [...{row}.children].map(each => each.innerText)")
    assert cells[:6] == ["✓", "✓", "P01_11_4", "take plate", "take plate", "take plate"]
    # On the timeline, the annotation is between the predictions of both.
    assert ask(page, "show(10); return texts('.lane-name')") == [
        "A, first: prediction over the whole video",
        "annotation",
        "B, second: prediction of each segment",
    ]


def test_filters_compare_the_guesses_of_both_runs(page):
    for name, wanted in (
        ("first", FIRST & ~SECOND),
        ("second", SECOND & ~FIRST),
        ("differ", FIRST != SECOND),
    ):
        assert ask(page, f"await set('result', '{name}'); return count()") == wanted.sum() > 0
    ask(page, "await set('result', 'right'); await set('run', '1')")
    assert ask(page, "return count()") == SECOND.sum()


def test_page_and_compare_give_the_same_interval(page):
    # The text ends with dots until the interval is computed. The page writes a minus as `−`.
    read = (
        "while (at('difference').innerText.endsWith('…')) await wait();"
        "return at('difference').innerText.replaceAll('−', '-')"
    )
    videos = np.repeat([0, 1, 2], 10)[:27]
    for members, filters in ((np.ones(27, bool), ""), (videos < 2, "await set('text', 'P0');")):
        first, second, sizes = (
            by_video(mask[members], videos[members]) for mask in (FIRST, SECOND, members)
        )
        found = difference(first, second, sizes, draw_videos(len(sizes)))
        text = ask(page, filters + read)
        assert f"{found.points:+.1f} points of the {members.sum()} shown" in text
        low, high = re.search(r"videos (\S+) to ([^;]+)", text).groups()
        assert (float(low), float(high)) == pytest.approx(found.interval, abs=0.11)
    text = ask(page, "await clear(); await set('participant', 'P18');" + read)
    assert "they lie in one video" in text


TABLE = "#class-table .rows .row"


def test_a_table_has_accuracies_and_frequent_mistakes(page):
    # Verb 0 and noun 0 are `take plate`.
    own = np.array([row[3:] == (0, 0) for row in rows()[:27]])
    right = 100 * FIRST[own].mean()
    low, high = wilson(right, own.sum())
    ask(page, "await open('classes'); await set('kind', 'action')")
    lines = [line.split("\n") for line in ask(page, f"return texts('{TABLE}')")]
    (cells,) = [line for line in lines if line[0] == "take plate"]
    assert cells[1:3] == [str(own.sum()), f"{right:.1f} ({low:.0f}–{high:.0f})"]
    assert cells[4] == f"{100 * SECOND[own].mean() - right:+.1f}".replace("-", "−")
    assert cells[5] == f"take spoon ({(own & ~FIRST).sum()})"
    # A click on the title of the third column sorts the table.
    shares = ask(
        page,
        "document.querySelector('#class-table .head :nth-child(3) button').click(); await wait();"
        f"return texts('{TABLE}').map(text => parseFloat(text.split('\\n')[2]))",
    )
    assert shares == sorted(shares, reverse=True) and len(set(shares)) > 1


@pytest.mark.parametrize(
    "kind, name, shown", [("action", "put <b>down</b> spoon", 8), ("participant", "P18", 10)]
)
def test_a_click_on_a_table_lists_segments(page, kind, name, shown):
    # A row is found by its text, so the page has escaped the tags in the name. `at` returns the
    # element with an id, and `count` the number of listed segments.
    state = ask(
        page,
        f"await open('classes'); await set('kind', '{kind}');"
        f"[...document.querySelectorAll('{TABLE}')].find(each =>"
        f" each.innerText.startsWith('{name}')).click(); await wait();"
        "return [at('segments').hidden, count()]",
    )
    assert state == [False, shown]


def test_a_click_on_calibration_lists_segments(page):
    ask(page, "await open('calibration')")
    label = ask(page, "return document.querySelectorAll('.bin')[9].ariaLabel")
    assert label.startswith("90–100 % sure; A: 27 segments, 77.8 % right; B: 27 segments, 66.7 %")
    listed = "return [count(), at('chips').innerText]"
    ask(page, "document.querySelectorAll('.bin')[9].click(); await wait()")
    assert ask(page, listed) == [27, "action: 90 to 100 % sure ×"]
    # With Shift, the segments of all bars from the last one are listed. Bars 4 to 7 have none.
    click = """
    await open('calibration');
    const press = (n, shiftKey) => document.querySelectorAll('.bin')[n].dispatchEvent(
        new MouseEvent('click', {bubbles: true, shiftKey}));
    press(4, false); await wait(); await open('calibration'); press(7, true); await wait();"""
    assert ask(page, click + listed) == [0, "action: 40 to 80 % sure ×"]


@pytest.fixture
def marked(page):
    """The page opened anew after segment 6 got a star and a note; they are forgotten at the end."""
    ask(
        page,
        "show(6); at('star').click(); at('note').value = '=is\\tit a pan?';"
        "at('note').dispatchEvent(new Event('input', {bubbles: true}))",
    )
    address = page.run("return location.href")
    page.go("about:blank")
    show(page, address)
    yield page
    ask(page, "localStorage.clear()")
    page.go("about:blank")


def test_stars_outlast_a_page(marked):
    starred = ask(marked, "await set('starred', true); return [count(), epic.viewer.current()]")
    assert starred == [1, 6]


def test_stars_and_notes_are_saved_with_lists(marked):
    save = "await set('starred', true); at('save-table').click(); at('save-marks').click();"
    saved = ask(marked, KEEP + save + "return saved")
    assert saved["labels.tsv"] == saved["segments.tsv"]
    head, line = (text.split("\t") for text in saved["segments.tsv"].splitlines())
    cells = dict(zip(head, line, strict=True))
    assert (cells["narration_id"], cells["star"]) == ("P01_11_6", "1")
    # A spreadsheet takes what begins with `=` for a formula, but not behind a quote.
    assert cells["note"] == "'=is it a pan?"
    assert (cells["result_a"], cells["result_b"]) == ("right", "wrong")
    assert cells["truth"] == cells["guess_a"] == "put <b>down</b> spoon"
    assert cells["guess_b"] != cells["truth"]


def test_a_browser_that_keeps_nothing_says_so(marked):
    refuse = "Storage.prototype.setItem = () => { throw new Error('refused'); };"
    said = ask(marked, refuse + "at('star').click(); return at('unkept').innerText")
    assert "keeps nothing" in said


def test_an_address_has_filters_tab_and_segment(page):
    ask(
        page,
        "await set('participant', 'P18'); show(22); await open('classes');"
        "await set('kind', 'noun'); await set('order', 'name')",
    )
    address = page.run("return location.href")
    state = (
        "return [count(), epic.viewer.current(), at('classes').hidden,"
        "texts('#class-table .rows .row').map(text => text.split('\\n')[0])]"
    )
    here = ask(page, state)
    assert here == [10, 22, False, ["pan", "plate", "spoon"]]
    ask(
        page,
        "await open('confusion'); await set('participant', 'P01');"
        "const gone = new Promise(done => addEventListener('hashchange', done));"
        "history.back(); await gone; await wait()",
    )
    assert ask(page, "return [count(), at('confusion').hidden]") == [10, False]
    ask(page, "await clear(); await open('segments'); show(3)")
    words = address.partition("#")[2]
    ask(page, f"location.hash = '{words}'; await wait(); await wait()")
    assert ask(page, state) == here


def test_an_address_with_wrong_values_filters_nothing(page):
    wrong = "cell=x&sure=verb:a:b&tab=no&run=7&sort=z&segment=P0"
    ask(page, f"location.hash = '{wrong}'; await wait(); await wait()")
    state = ask(page, "return [count(), at('segments').hidden, at('chips').innerText]")
    assert state == [30, False, ""]


def test_a_clip_can_be_sought_without_range_requests(page, two_runs):
    with served(two_runs.parents[1]) as address:
        show(page, f"{address}/browse/index.html")
        sought = (
            "const player = at('player'); show(4); while (!player.duration) await wait();"
            "player.currentTime = 1.5; while (player.seeking) await wait();"
            "return player.currentTime"
        )
        assert ask(page, sought) == pytest.approx(1.5, abs=0.1)
        around = (
            "at('around').click(); while (at('message').hidden) await wait();"
            "return at('message').innerText"
        )
        assert "no Range requests" in ask(page, "show(1);" + around)
        page.go("about:blank")


def test_a_video_plays_around_its_segment(page):
    begin = (
        "at('around').click(); while (at('player').currentTime < 1) await wait();"
        "return [at('player').currentSrc, at('player').currentTime]"
    )
    # Its segment begins at 3 s.
    source, seconds = ask(page, "show(1);" + begin)
    assert source.endswith("/P01_11.MP4") and 1 <= seconds < 2
    assert ask(page, "return at('badges').querySelector('a').getAttribute('href')") == (
        "../P01_11.MP4#t=3,7"
    )
    over = """const player = at('player');
    player.currentTime = 2.8;
    while (player.currentTime < 2.8) await wait();
    while (player.currentTime > 2) await wait();
    return epic.viewer.current()"""
    assert ask(page, over) == 1  # The file ends, and its moment begins again.
    # It is no error if the browser refuses to play.
    refused = "player.play = () => Promise.reject(new Error('refused'));"
    ask(
        page,
        f"const player = at('player'); {refused} player.dispatchEvent(new Event('ended'));"
        "await wait(); delete player.play; at('around').click()",
    )
    assert ask(page, "show(12); return at('around').closest('label').hidden")


def test_the_folder_shows_clips_without_videos(browser, two_runs, tmp_path):
    shutil.copytree(two_runs.parent, tmp_path / "browse")
    show(browser, (tmp_path / "browse/index.html").as_uri())
    # The first tick asks for the whole video, which is not here.
    shown = ask(
        browser,
        "const found = []; show(1); at('around').click();"
        "for (let i = 1; i < 27; i += 1) { show(i);"
        "while (!at('player').videoWidth) await wait();"
        "const isClip = at('player').currentSrc.includes('/clips/');"
        "found.push(isClip && at('message').hidden && at('around').closest('label').hidden); }"
        "return found",
    )
    assert shown == [True] * 26
    browser.errors.clear()
    browser.go("about:blank")


def test_keyboard_and_screen_reader_can_use_it(page):
    heard = """const table = at('segment-table');
    const row = at(table.getAttribute('aria-activedescendant'));
    const id = row.innerText.split('\\n')[2];
    return [id, row.ariaSelected, row.ariaRowIndex, table.ariaRowCount]"""
    pressed = """document.activeElement.click();
    return [epic.viewer.current(), document.querySelector('.block[aria-pressed=true]').tabIndex]"""
    unheard = """const state = [at('calibration').hidden, epic.viewer.current()];
    at('letters').click(); return state"""
    for before, keys, script, expected in (
        (
            "at('segment-table').focus()",
            "ArrowDown ArrowDown",
            heard,
            ["P01_11_2", "true", "4", "31"],
        ),
        ("", "End", "return epic.viewer.current()", 29),
        ("document.querySelector('.lane .selected').focus()", "ArrowLeft", pressed, [28, 0]),
        ("", "4", "return at('calibration').hidden", False),
        ("at('letters').click(); document.activeElement.blur()", "1 j", unheard, [False, 28]),
    ):
        ask(page, before)
        page.press(*keys.split())
        assert ask(page, script) == expected


def test_a_telephone_s_list_shows_truth_and_guesses(page):
    page.resize(390)
    first = """const cells = [...document.querySelectorAll('#segment-table .rows .stacked span')];
    return cells.slice(0, 4).map(each => each.innerText)"""
    lines = ask(page, f"await wait(); await wait(); {first}")
    assert lines == ["take plate", "A take spoon", "B take spoon", "P01_11_0"]
    # One of the made-up names is a script, which is longer than a telephone is wide.
    names = (
        "return [...document.querySelectorAll('.stacked span')].filter("
        "each => each.innerText.length < 40 && each.scrollWidth > each.clientWidth).length"
    )
    assert ask(page, names) == 0


def test_the_first_shown_segment_is_a_mistake(browser, two_runs):
    browser.go("about:blank")
    show(browser, two_runs.as_uri())
    assert ask(browser, "return epic.runs[0].word(epic.viewer.current())") == "wrong"


def test_a_click_on_a_mistake_lists_segments(page):
    worst = "while (!at('mistakes').children.length) await wait(); return texts('#mistakes button')"
    first, *_ = ask(page, worst)
    assert re.fullmatch(r"\d+ × (verb|noun): .* taken for .*", first)
    number = ask(page, "at('mistakes').children[0].click(); await wait(); return count()")
    assert number == int(first.partition(" ")[0])


def test_clips_changed_while_read_raise_no_error(page, two_runs):
    # The address of a clip in memory was once revoked while the player read it.
    with served(two_runs.parents[1]) as address:
        show(page, f"{address}/browse/index.html")
        ask(
            page,
            "for (let i = 0; i < 60; i += 1) { show(1 + i % 26);"
            "await new Promise(done => setTimeout(done, 3 * (i % 9))); }",
        )
        ask(page, "await new Promise(done => setTimeout(done, 1500))")
        assert page.errors == []
        page.go("about:blank")


@pytest.mark.parametrize(
    "runs, scheme, width",
    [
        ("one_run", "light", 390),
        ("two_runs", "light", 1440),
        ("two_runs", "dark", 390),
    ],
    ids=["one run, telephone", "two runs, wide screen", "two runs, dark telephone"],
)
def test_each_tab_is_accessible_and_fits_the_screen(browser, request, runs, scheme, width):
    show(browser, request.getfixturevalue(runs).as_uri())
    axe = (Path(__file__).parents[1] / "support/vendor/axe.min.js").read_text(encoding="utf-8")
    browser.run(f"if (!window.axe) {{ {axe} }}")
    browser.resize(width)
    browser.prefer(scheme)
    ask(browser, "await clear(); show(1)")
    violations = "return (await axe.run()).violations.map(each => [each.id, each.nodes[0].html])"
    number_of_small_texts = """const size = each => parseFloat(getComputedStyle(each).fontSize);
    const all = [...document.querySelectorAll('body *')];
    return all.filter(each => each.innerText && size(each) < 11).length"""
    tabs = "return [...document.querySelectorAll('[role=tabpanel]')].map(each => each.id)"
    for name in ask(browser, tabs):
        assert ask(browser, f"await open('{name}');" + violations) == [], name
        wide = ask(browser, "return document.documentElement.scrollWidth")
        assert wide <= width, name
        assert ask(browser, number_of_small_texts) == 0, name
