"""A real headless Chromium, driven over its DevTools protocol; words for scripts in the page."""

import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from support.checkout import lacks

PROGRAM = "chromium"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1366,768",
    "--remote-debugging-pipe",
)
# The maximum time of one answer, in seconds.
PATIENCE = 120.0


@contextmanager
def opened(url: str, folder: Path) -> Iterator["Page"]:
    """Open a page in a separate Chromium, whose files lie in `folder`.

    Without a Chromium the test is skipped, or fails in CI, where there must be one.
    """
    if not shutil.which(PROGRAM):
        lacks(f"no program {PROGRAM} to open pages with: apt-get install {PROGRAM}")
    with closing(Page(url, folder / "profile")) as page:
        yield page


class Page:
    """A page in a separate Chromium.

    Attributes:
        asked: Every address that the page asked for.
        errors: The errors that its console shows.
    """

    def __init__(self, url: str, profile: Path):
        (their_in, our_out), (our_in, their_out) = os.pipe(), os.pipe()
        # Chromium reads descriptor 3 and writes 4. Bash puts the pipes there. They first get
        # numbers from 10 on, so that neither is 3 or 4 already.
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (their_in, their_out)]
        reads, writes = high
        command = ["bash", "-c", f'exec "$@" 3<&{reads} 4>&{writes}', "bash", PROGRAM, *FLAGS]
        with (profile.parent / "chromium.log").open("w") as log:
            self._process = subprocess.Popen(
                [*command, f"--user-data-dir={profile}"], pass_fds=high, stderr=log
            )
        for fd in (their_in, their_out, *high):
            os.close(fd)
        self._in, self._out, self._rest, self._last = our_in, our_out, b"", 0
        self._session: str | None = None
        self._loaded = False
        self.asked: list[str] = []
        self.errors: list[dict] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self._call(f"{domain}.enable")
        self.go(url)

    def go(self, url: str) -> None:
        """Show another page, and wait until it is loaded."""
        self._loaded = False
        self._call("Page.navigate", url=url)
        while not self._loaded:
            self._read()

    def run(self, script: str):
        """Run a script, the body of an async JavaScript function, and return its result."""
        answer = self._call(
            "Runtime.evaluate",
            expression=f"(async () => {{ {script} }})()",
            awaitPromise=True,
            returnByValue=True,
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def resize(self, width: int, height: int = 900) -> None:
        """Show the page as on a screen of this size in CSS pixels."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def prefer(self, scheme: str) -> None:
        """Show the page as to somebody who prefers `light` or `dark`."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._call("Emulation.setEmulatedMedia", features=features)

    def press(self, *keys: str) -> None:
        """Press keys, by their names in JavaScript, one after the other."""
        for key in keys:
            text = {"text": key} if len(key) == 1 else {}
            self._call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
            self._call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def close(self) -> None:
        """End Chromium."""
        os.close(self._out)
        os.close(self._in)
        self._process.terminate()
        self._process.wait(timeout=30)

    def _call(self, method: str, **params) -> dict:
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._last:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def _read(self) -> dict:
        """Wait for the next answer or event, and note it if it is an event."""
        deadline = time.monotonic() + PATIENCE
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], max(deadline - time.monotonic(), 0))
            data = os.read(self._in, 1 << 20) if ready else b""
            assert data, "Chromium ended or says nothing more; its last words are in chromium.log"
            self._rest += data
        text, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(text)
        if message.get("method") == "Network.requestWillBeSent":
            self.asked.append(message["params"]["request"]["url"])
        event = message.get("params", {})
        if (
            message.get("method") == "Runtime.exceptionThrown"
            or event.get("entry", {}).get("level") == "error"
            or event.get("type") == "error"
        ):
            self.errors.append(event)
        self._loaded |= message.get("method") == "Page.loadEventFired"
        return message


def violations(page: Page) -> list:
    """Return what axe finds wrong on the page that is shown: the rule, and the first element."""
    axe = (Path(__file__).parent / "vendor/axe.min.js").read_text(encoding="utf-8")
    page.run(f"if (!window.axe) {{ {axe} }}")
    found = "return (await axe.run()).violations.map(each => [each.id, each.nodes[0].html])"
    return page.run(found)


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
    """Show the page of a file without filters, at its first segment, on a wide screen.

    At the end, the console of the page must show no errors.
    """
    show(page, file.as_uri())
    page.resize(1440)
    ask(
        page,
        "location.hash = ''; await wait(); await wait(); show(0);document.activeElement.blur()",
    )
    yield page
    assert page.errors == [], page.errors


def show(page: Page, address: str) -> None:
    """Open an address, unless its page is the one that is open."""
    if page.run("return location.href").partition("#")[0] != address.partition("#")[0]:
        page.go(address)
    page.run(READY)


def ask(page: Page, script: str):
    """Run a script that may use the functions of `TOOLS`, and return its result."""
    return page.run(TOOLS + script)
