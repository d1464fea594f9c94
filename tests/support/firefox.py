"""A real headless Firefox, driven over Marionette, with methods as `browser.Page` has them."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from support.checkout import lacks

PROGRAMS = ("firefox", "firefox-esr")
# One answer may take this many seconds.
PATIENCE = 120.0
PREFERENCES = {"marionette.port": 0, "app.update.enabled": False, "media.autoplay.default": 0}
# Errors of pages and their scripts since the last call; those of the browser itself do not count.
ERRORS = """
const all = Services.console.getMessageArray().filter(each => each instanceof Ci.nsIScriptError
    && !(each.flags & Ci.nsIScriptError.warningFlag) && /^(file|http)/.test(each.sourceName));
Services.console.reset();
return all.map(String);
"""


@contextmanager
def opened(url: str, folder: Path) -> Iterator["Firefox"]:
    """Open a page in a Firefox of its own, whose files lie in `folder`.

    Without a Firefox the test is skipped, or fails in CI, where there must be one.
    """
    program = next(filter(shutil.which, PROGRAMS), None)
    if program is None:
        lacks(f"no program {PROGRAMS[0]} to open pages with: apt-get install {PROGRAMS[1]}")
    with closing(Firefox(program, folder / "firefox")) as page:
        page.go(url)
        yield page


class Firefox:
    """A page in a Firefox of its own."""

    def __init__(self, program: str, profile: Path):
        profile.mkdir(parents=True)
        lines = [f'user_pref("{key}", {json.dumps(value)});' for key, value in PREFERENCES.items()]
        (profile / "user.js").write_text("\n".join(lines))
        flags = ("--headless", "--marionette", "--no-remote", "--remote-allow-system-access")
        command = [program, *flags, "--profile", str(profile)]
        with (profile.parent / "firefox.log").open("w") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        self._errors: list[str] = []
        self._socket = self._connected(profile / "MarionetteActivePort")
        self._socket.settimeout(PATIENCE)
        self._file = self._socket.makefile("rb")
        self._answer()  # The first one is to no call.
        self._call("WebDriver:NewSession", capabilities={"alwaysMatch": {}})

    @property
    def errors(self) -> list[str]:
        """The errors of all pages that the console showed so far."""
        self._call("Marionette:SetContext", value="chrome")
        self._errors += self._call("WebDriver:ExecuteScript", script=ERRORS, args=[])["value"]
        self._call("Marionette:SetContext", value="content")
        return self._errors

    def go(self, url: str) -> None:
        """Show another page, and wait until it is loaded."""
        self._call("WebDriver:Navigate", url=url)

    def run(self, script: str):
        """Run a script, the body of an async JavaScript function, and return its result.

        It has a global scope of its own, so it sees the page's elements but not its constants.
        """
        script = f"return (async () => {{ {script} }})()"
        return self._call("WebDriver:ExecuteScript", script=script, args=[], sandbox=None)["value"]

    def resize(self, width: int, height: int = 900) -> None:
        """Give the window this size."""
        self._call("WebDriver:SetWindowRect", width=width, height=height)

    def close(self) -> None:
        """End Firefox."""
        with suppress(OSError, AssertionError):
            self._call("Marionette:Quit", flags=["eForceQuit"])
        self._socket.close()
        self._process.terminate()
        self._process.wait(timeout=30)

    def _connected(self, port_file: Path) -> socket.socket:
        """Wait until Firefox has written its port, and connect to it."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            assert self._process.poll() is None, "Firefox ended; its last words are in firefox.log"
            with suppress(OSError, ValueError):
                return socket.create_connection(("127.0.0.1", int(port_file.read_text())))
            time.sleep(0.1)
        raise TimeoutError("Firefox has no Marionette port; see firefox.log")

    def _call(self, command: str, **parameters):
        message = json.dumps([0, 1, command, parameters]).encode()
        self._socket.sendall(b"%d:%s" % (len(message), message))
        _, _, error, result = self._answer()
        assert error is None, error
        return result

    def _answer(self):
        """Read an answer: its length, a colon, and JSON."""
        digits = b""
        while (digit := self._file.read(1)) != b":":
            assert digit, "Firefox ended; its last words are in firefox.log"
            digits += digit
        return json.loads(self._file.read(int(digits)))
