"""The page of `epic100 predict` in a real browser, opened from disk: films, timelines, filters."""

import json
import shutil
from pathlib import Path

import pytest

from epic100.pages.browse import add_film
from support.browser import READY, TOOLS, ask, opened
from support.small_browse import ATTACK, NOUNS, VERBS
from support.tricky_videos import audio_only, encode

pytestmark = pytest.mark.slow

NAMES = {"verb": VERBS, "noun": NOUNS}
# One action a second but for the last one, as (verb, noun).
PAIRS = [(0, 0), (1, 1), (0, 2)]
AXE = (Path(__file__).parents[1] / "support/vendor/axe.min.js").read_text(encoding="utf-8")
VIOLATIONS = f"""{AXE}; const found = await axe.run({{preload: false}});
return found.violations.map(each => [each.id, each.nodes[0].html])"""
CHOOSE = """
const choose = async name => { at('film').value = name; const before = at('title').innerText;
    at('film').dispatchEvent(new Event('change'));
    while (at('title').innerText === before) await wait(); };
"""


def timeline(pairs=PAIRS, damaged=(3,)):
    """Make the JSON of a timeline of four seconds, with two clips a second."""
    rows = [
        {"start": float(i), "stop": i + 1.0, "verb": verb, "noun": noun, "probability": 0.9}
        for i, (verb, noun) in enumerate(pairs)
    ]
    clips = [{"start": i / 2, "stop": (i + 1) / 2, "damaged": True} for i in range(8)]
    for clip in clips:
        if int(clip["start"]) in damaged:
            continue
        del clip["damaged"]
        verb, noun = PAIRS[int(clip["start"]) % 3]
        clip["actions"] = [
            {"verb": verb, "noun": noun, "name": "", "probability": 0.8},
            {"verb": 3, "noun": 1, "name": "", "probability": 0.1},
        ]
        clip["verbs"] = [{"verb": verb, "name": "", "probability": 0.85}]
        clip["nouns"] = [{"noun": noun, "name": "", "probability": 0.95}]
    stretches = [[second, second + 1.0] for second in damaged]
    return {"duration": 4.0, "damaged": stretches, "segments": rows, "clips": clips}


@pytest.fixture(scope="session")
def films(tmp_path_factory):
    """The page of four films: one that plays, one that does not, a spoilt and a rejected one."""
    folder = tmp_path_factory.mktemp("films")
    page = folder / "out/index.html"
    # Any browser plays WebM, also one without H.264.
    kitchen = encode(folder / "my #1 kitchen.webm", 120, codec="libvpx-vp9", deadline="realtime")
    add_film(page, kitchen, timeline(), NAMES, [])
    (folder / "old.mpg").write_bytes(b"\x00\x00\x01\xba" + bytes(5000))
    add_film(page, folder / "old.mpg", timeline(), NAMES, ["The model has no class names"])
    add_film(page, folder / "spoilt.mp4", timeline([], range(4)), NAMES, [])
    audio_only(folder / "sound.mp4")
    add_film(page, folder / "sound.mp4", {}, {}, ["No timeline: no video stream"])
    return page


@pytest.fixture(scope="session")
def screen(tmp_path_factory):
    """A browser with an empty page."""
    with opened("about:blank", tmp_path_factory.mktemp("screen")) as page:
        yield page


@pytest.fixture
def page(screen, films):
    """The page at its first film; at the end the console must show no errors."""
    screen.go("about:blank")
    before = len(screen.errors)
    screen.resize(1440)
    screen.go(films.as_uri())
    screen.run(READY)
    yield screen
    # Chromium notes that the film of a test is missing.
    errors = [each for each in screen.errors[before:] if "ERR_FILE_NOT_FOUND" not in str(each)]
    assert errors == []


PLAYS = "while (!at('player').videoWidth) await wait();"


def test_a_click_seeks_and_shows_five_best(page):
    ask(page, PLAYS)
    state = "return [at('player').currentTime, at('moment').innerText, texts('#guesses .guess')]"
    seconds, moment, guesses = ask(
        page,
        "const place = document.querySelector('.film').getBoundingClientRect();"
        "const at_ = place.left + place.width * 1.5 / 4;"
        "document.querySelector('.film').dispatchEvent("
        "new MouseEvent('click', {bubbles: true, clientX: at_}));"
        "while (at('player').seeking) await wait(); await wait();" + state,
    )
    assert seconds == pytest.approx(1.5, abs=0.1) and moment.endswith("put <b>down</b> spoon")
    assert guesses[0].split("\n") == ["put <b>down</b> spoon", "80.0 %"] and len(guesses) == 4
    seconds, _, guesses = ask(
        page,
        "document.querySelectorAll('.block')[2].click();"
        "while (at('player').seeking) await wait(); await wait();" + state,
    )
    assert seconds == pytest.approx(2, abs=0.1) and guesses[0].startswith("take pan")


def test_the_five_best_change_while_the_film_plays(page):
    before, after = ask(
        page,
        PLAYS + "const player = at('player'); const first = texts('#guesses .guess')[0];"
        "player.currentTime = 0.8; player.muted = true; await player.play();"
        "while (player.currentTime < 1.2) await wait(); player.pause(); await wait();"
        "return [first, texts('#guesses .guess')[0]]",
    )
    assert before.startswith("take plate") and after.startswith("put <b>down</b> spoon")
    damaged = "at('player').currentTime = 3.5; while (at('player').seeking) await wait();"
    assert "damaged" in ask(page, damaged + "await wait(); return at('guesses').innerText")


def test_the_list_filters_by_verb_and_noun(page):
    rows = "return [texts('#action-table .rows .row'), texts('.block.dropped').length]"
    shown, dropped = ask(page, "await set('verb', '0');" + rows)
    assert [row.split("\n")[1] for row in shown] == ["take plate", "take pan"] and dropped == 1
    shown, _ = ask(page, "await set('noun', '2');" + rows)
    assert [row.split("\n")[1] for row in shown] == ["take pan"]
    ask(page, "document.querySelector('[type=reset]').click(); await wait(); await wait()")
    assert len(ask(page, rows)[0]) == 3
    row = "document.querySelectorAll('#action-table .rows .row')[1].click(); await wait();"
    assert ask(page, row + "return at('moment').innerText").startswith("0:01.0")


def test_an_unplayable_film_has_a_helpful_line(page):
    message = ask(
        page,
        CHOOSE + "await choose('old'); while (at('message').hidden) await wait();"
        "document.querySelectorAll('.block')[1].click(); await wait();"
        "return [at('message').innerText, at('moment').innerText, at('lacks').innerText]",
    )
    assert "it is not at ../old.mpg" in message[0] and "ffmpeg -i ../old.mpg -c:v" in message[0]
    assert message[1] == "0:01.0 put <b>down</b> spoon" and "no class names" in message[2]


def test_a_film_says_what_it_lacks(page):
    lacks = "return [at('lacks').innerText, at('viewer').hidden]"
    for film, text, is_hidden in (
        ("sound", "No timeline: no video stream", True),
        ("spoilt", "All of this film is damaged", False),
    ):
        found = ask(page, CHOOSE + f"await choose('{film}');" + lacks)
        assert found[0].startswith(text) and found[1] == is_hidden


@pytest.mark.parametrize("film", ["my #1 kitchen", "old", "spoilt", "sound"])
@pytest.mark.parametrize("width", [1440, 390])
def test_the_page_is_accessible_and_fits_the_screen(page, film, width):
    page.resize(width)
    if film != "my #1 kitchen":
        ask(page, CHOOSE + f"await choose('{film}')")
    assert ask(page, VIOLATIONS) == []
    wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert ask(page, "await wait();" + wide) <= 0


def test_the_folder_shows_its_timelines_without_the_films(screen, films, tmp_path):
    shutil.copytree(films.parent, tmp_path / "copy")
    screen.go((tmp_path / "copy/index.html").as_uri())
    screen.run(READY)
    blocks = "while (at('message').hidden) await wait(); return texts('.block')"
    assert ask(screen, blocks) == ["take plate", "put <b>down</b> spoon", "take pan"]
    screen.go("about:blank")


def test_three_hours_are_shown_at_once(screen, tmp_path):
    film = timeline()
    film["clips"] = [film["clips"][0] | {"start": i / 2} for i in range(21600)]
    action = film["segments"][0]
    film["segments"] = [action | {"start": 2.0 * i, "stop": 2 * i + 1.5} for i in range(5400)]
    page = tmp_path / "index.html"
    add_film(page, tmp_path / "long.mp4", film | {"duration": 10800.0}, NAMES, [])
    screen.go(page.as_uri())
    screen.run(READY)
    assert screen.run("return performance.getEntriesByName('epic-ready')[0].startTime") < 5000
    last = TOOLS + "[...document.querySelectorAll('.block')].pop().click(); await wait();"
    assert screen.run(last + "return at('moment').innerText") == "179:58.0 take plate"
    screen.go("about:blank")


def test_names_are_text_whatever_they_are_called(tmp_path):
    # The name of the film, and what the page says it lacks, are code as HTML.
    page = tmp_path / "index.html"
    add_film(page, tmp_path / f"{ATTACK.replace('/', '')}.mp4", timeline(), NAMES, [ATTACK])
    (data,) = (tmp_path / "index_files").glob("*.film.js")
    assert "<" not in data.read_text() + (tmp_path / "index_files/films.js").read_text()


def test_the_page_lists_its_folder_s_films(films, tmp_path):
    listed = (films.parent / "index_files/films.js").read_text()
    names = json.loads(listed.removeprefix("window.epicData = ").removesuffix(";\n"))
    assert names == ["my #1 kitchen", "old", "sound", "spoilt"]
    page = tmp_path / "index.html"
    page.write_text("<p>mine")
    add_film(page, tmp_path / "a.mp4", timeline(), NAMES, [])
    assert page.read_text() == "<p>mine" and list(tmp_path.iterdir()) == [page]
