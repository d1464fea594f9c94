"""The page of one run in a real browser: filters, confusion matrix, clips, timeline and keys."""

import pytest

from support.browser import ask, at_start, show
from support.small_browse import ATTACK, REASON

pytestmark = pytest.mark.slow


@pytest.fixture
def page(browser, one_run):
    """The page without filters, at its first segment, on a wide screen."""
    yield from at_start(browser, one_run)


@pytest.mark.parametrize(
    # The field, its value in JavaScript, and the number of segments that are left of 30.
    "name, value, shown",
    [
        ("text", "'saying P02'", 10),
        ("participant", "'P18'", 10),
        ("verb", "'2'", 7),
        ("noun", "'0'", 7),
        ("result", "'wrong'", 6),
        ("result", "'right'", 21),
        ("result", "'noun'", 4),
        # Among the five most probable of 12 actions (test_browse_data.py).
        ("result", "'near'", 3),
        ("result", "'far'", 3),
        ("result", "'none'", 3),
        ("reason", "'touches damaged frames'", 3),
        ("reason", "'kept'", 27),
        ("tail", "true", 7),
        ("unseen", "true", 10),
    ],
)
def test_a_filter_shows_the_segments_that_it_names(page, name, value, shown):
    rows = "document.querySelectorAll('#segment-table .rows .row').length"
    count, rows = ask(page, f"await set('{name}', {value}); return [count(), {rows}]")
    # The table draws only the rows that are in sight.
    assert count == shown and (rows == shown or shown > 15)
    assert ask(page, "await clear(); return count()") == 30


def test_accuracies_are_those_of_the_shown_segments(page):
    texts = ask(page, "await set('participant', 'P18'); return texts('#title, #summary')")
    # 5 of 7 are right.
    assert texts == [
        "71.4\u00a0% of 7 actions are right",
        "10 of 30 segments shown, 7 with a prediction. Verbs: 71.4\u00a0%. Nouns: 71.4\u00a0%.",
    ]
    assert "as the leaderboard counts" in ask(page, "return at('official').innerText")
    # They are aligned.
    left = "return ['title', 'summary', 'official', 'segments'].map(id => at(id).offsetLeft)"
    assert len(set(ask(page, left))) == 1


def test_calibration_has_scales_and_segment_counts(page):
    ask(page, "await open('calibration')")
    counts = ask(
        page,
        "return [...document.querySelectorAll('.bin-number')].map(each =>"
        " getComputedStyle(each, '::before').content)",
    )
    assert counts == 9 * ['"0"'] + ['"27"']
    assert ask(page, "return texts('#sure-scale span')") == [str(10 * i) for i in range(11)]
    # The steps of the scale are as high as the bars.
    ends = """const box = name => document.querySelector(name).getBoundingClientRect();
    const middle = name => (box(name).top + box(name).bottom) / 2;
    return [middle('#scale div :first-child') - box('.bin-bars').top,
        middle('#scale div :last-child') - box('.bin-bars').bottom]"""
    assert ask(page, ends) == pytest.approx([0, 0], abs=3)


def test_no_table_has_a_class_without_segments(page):
    for kind in ("verb", "noun", "action", "participant"):
        ask(page, f"await open('classes'); await set('kind', '{kind}'); await set('noun', '0')")
        numbers = ask(
            page,
            "return texts('#class-table .rows .row').map(row => Number(row.split('\\n')[1]))",
        )
        assert numbers and min(numbers) > 0


def test_a_click_on_confusion_lists_segments(page):
    cell = "#matrix tbody tr:nth-child(1) td:nth-child(3) button"
    ask(page, f"await open('confusion'); document.querySelector('{cell}').click(); await wait()")
    state = "return [at('segments').hidden, count(), at('chips').innerText]"
    hidden, count, filters = ask(page, state)
    assert not hidden and count == 2 and filters.startswith("verb: take taken for put <b>down</b>")
    rows = ask(page, "return texts('#segment-table .rows .row')")
    assert len(rows) == 2 and all("✗" in row and "put <b>down</b>" in row for row in rows)
    remove = "at('chips').querySelector('button').click(); await wait();"
    assert ask(page, remove + "return count()") == 30


def test_the_confusion_matrix_counts_the_filtered_segments(page):
    ask(page, "await open('confusion'); await set('participant', 'P01')")
    cells = ask(page, "return texts('#matrix tbody td button').filter(Boolean).map(Number)")
    assert sum(cells) == 10
    # Arrow keys go from cell to cell.
    ask(page, "document.querySelector('#matrix td button:enabled').focus()")
    page.press("ArrowRight")
    assert ask(page, "return document.activeElement.title") == (
        "take taken for put <b>down</b>: 1 of 6"
    )


def test_the_timeline_s_line_follows_the_clip(page):
    line = "return new DOMMatrix(getComputedStyle(document.querySelector('.line')).transform).m41"
    block = "document.querySelector('.block[data-segment=\"4\"]')"
    ask(page, f"{block}.click()")
    ask(page, "while (at('player').currentTime < 0.3) await new Promise(r => setTimeout(r, 20))")
    assert ask(page, "return at('player').videoWidth") > 0
    assert ask(page, "return at('player').currentSrc").endswith("/clips/P01/P01_11_4.mp4")
    # The segment of this block begins at 12 s.
    scale = ask(page, f"return {block}.offsetLeft / 12")
    assert ask(page, line) >= 12.2 * scale
    ask(
        page,
        "at('player').pause(); at('player').currentTime = 1;"
        "await new Promise(r => at('player').addEventListener('seeked', r, {once: true}));"
        "await wait()",
    )
    assert ask(page, line) == pytest.approx(13 * scale, abs=2)


def test_the_five_best_guesses_are_beside_the_clip(page):
    actions, verbs, _ = ask(page, "show(1); return texts('#guesses section')")
    actions = actions.splitlines()
    # A heading is followed by a name and a probability for each guess.
    assert actions[0] == "actions" and len(actions) == 1 + 2 * 5 and verbs.startswith("verbs\n")
    assert actions[1].startswith("✓ take spoon") and actions[2].endswith(" %")
    assert "✓ action right" in ask(page, "return at('badges').innerText")


def test_damage_and_dropped_segments_are_on_the_timeline(page):
    blocks = """show(29);
    const damage = document.querySelector('.damage');
    const scale = document.querySelector('.block[data-segment="28"]').offsetLeft / 24;
    return [damage.offsetLeft / scale, damage.offsetWidth / scale,
        document.querySelectorAll('.block.dropped').length]"""
    # The damage lasts from 27 to 30 s, and three segments are dropped.
    assert ask(page, blocks) == pytest.approx([27, 3, 3], abs=0.1)
    assert REASON in ask(page, "return at('message').innerText + at('badges').innerText")


def test_the_timeline_or_its_command_is_shown(page):
    state = "return [texts('.block.seen'), at('legend').innerText]"
    actions, legend = ask(page, "show(10);" + state)
    assert actions == ["take plate"] and "epic100" not in legend
    actions, legend = ask(page, "show(0);" + state)
    assert actions == []
    # The call of `small_browse`, as a run has its own options.
    assert legend.endswith("epic100 run --directory demo results/timeline/P01_11.tsv")


def test_an_unplayable_clip_has_a_message(page, one_run):
    shown = "return [at('player').hidden, at('message').innerText]"
    hidden, message = ask(page, "show(0);" + shown)
    assert hidden and message.startswith("No clip was made of this segment. Its moment in the whol")
    assert ask(page, "show(1);" + shown)[0] is False
    # The browser knows no H.264.
    play = "HTMLMediaElement.prototype.canPlayType"
    script = f"const old = {play}; {play} = () => ''; show(2); {play} = old; {shown}"
    hidden, message = ask(page, script)
    assert hidden and "cannot play H.264" in message and "clips/P01/P01_11_2.mp4" in message
    clip = one_run.parent / "clips/P18/P18_01_6.mp4"
    # The clip is a link to that of the run, which must stay.
    clip.unlink()
    clip.write_bytes(b"no clip")
    ask(page, "show(26); while (at('message').hidden) await wait()")
    assert "missing or cut" in ask(page, "return at('message').innerText")


def test_keys_move_in_the_list_search_and_clear(page):
    # Of the 30 segments of the page, 10 are of participant P18.
    current = "return epic.segments.columns.id[epic.viewer.current()]"
    # The field has the focus, so it would take the next key.
    leave = "await wait(); at('filter').elements.text.blur(); return count()"
    for keys, script, expected in (
        ("ArrowDown j", current, "P01_11_2"),
        ("k ArrowRight ArrowRight ArrowLeft", current, "P01_11_2"),
        ("2", "return at('confusion').hidden", False),
        ("/ P 1 8", leave, 10),
        ("Escape", "await wait(); await wait(); return count()", 30),
    ):
        page.press(*keys.split())
        assert ask(page, script) == expected


def test_names_are_text_whatever_they_are_called(page):
    ask(page, "epic.viewer.show(2, false); at('tab-confusion').click(); await wait()")
    assert ask(page, "return document.title") == "EPIC-KITCHENS-100: what the model sees"
    assert ask(page, "return document.querySelectorAll('img, b b, td b').length") == 0
    assert ATTACK in ask(page, "return at('guesses').innerText")
    assert ATTACK in ask(page, "return texts('#matrix tbody th')")


def test_the_page_loads_only_files_of_its_folder(page, one_run):
    page.go("about:blank")
    before = len(page.asked)
    show(page, one_run.as_uri())
    ask(
        page,
        "for (const tab of document.querySelectorAll('[role=tab]')) { tab.click();"
        "await wait(); show(4); }",
    )
    asked = page.asked[before:]
    ours = (one_run.parent.as_uri(), "data:")
    assert len(asked) >= 4 and [url for url in asked if not url.startswith(ours)] == []
