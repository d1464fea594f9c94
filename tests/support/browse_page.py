"""The page of `results/browse/` in a browser, and words for scripts in it. No test in here."""

from collections.abc import Iterator
from pathlib import Path

from support.chromium import Page

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
const clear = async () => { at('clear').click(); await wait(); };
const show = i => epic.viewer.show(i, false);
const open = async name => { at('tab-' + name).click(); await wait(); };
const count = () => parseInt(texts('#summary b')[0]);
"""


def at_start(page: Page, file: Path) -> Iterator[Page]:
    """The page of this file without filters, at its first segment, on a wide screen."""
    show(page, file.as_uri())
    page.resize(1440)
    ask(page, "location.hash = ''; await wait(); await wait(); show(0);"
              "document.activeElement.blur()")  # fmt: skip
    yield page
    assert page.errors == []


def show(page: Page, address: str) -> None:
    """Open an address, unless its page is the one that is open."""
    if page.run("return location.href").partition("#")[0] != address.partition("#")[0]:
        page.go(address)
    page.run(READY)


def ask(page: Page, script: str):
    """What a script with these words returns."""
    return page.run(TOOLS + script)
