"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

import logging
import sys
import threading
import time

from tqdm import tqdm

from epic100.base.log import FILE_ONLY

PLAIN_SECONDS = 10.0
tqdm.monitor_interval = 0  # its thread could hold a lock when a loader worker is forked

log = logging.getLogger(__name__)


class Progress:
    """Progress of long work: a bar on a terminal; plain lines elsewhere and in the rule's log.

    A line is logged every 10 s, with the rate and the time left.

    Args:
        label: Name of the work.
        total: Amount of work in `unit`.
        unit: What is counted, such as "frames".
    """

    def __init__(self, label: str, total: float, unit: str):
        self.label, self.total, self.unit = label, total, unit
        self.done, self._lock = 0.0, threading.Lock()
        self._started = self._reported = time.monotonic()
        terminal = sys.__stderr__ is not None and sys.__stderr__.isatty()
        self._bar = (
            tqdm(total=total, unit=f" {unit}", desc=label, file=sys.__stderr__, leave=False)
            if terminal
            else None
        )

    def update(self, amount: float = 1, note: str = "") -> None:
        """Add `amount` of the unit, from any thread; `note` is shown beside the numbers."""
        with self._lock:
            self.done += amount
            if self._bar is not None:
                self._bar.set_postfix_str(note, refresh=False)
                self._bar.update(amount)
            if time.monotonic() - self._reported > PLAIN_SECONDS:
                self._reported = time.monotonic()
                log.info(self.line(note), extra=None if self._bar is None else FILE_ONLY)

    def line(self, note: str = "") -> str:
        """The current state as text: amount done, rate and time left."""
        spent = max(time.monotonic() - self._started, 1e-9)
        rate = self.done / spent
        left = tqdm.format_interval(max(self.total - self.done, 0) / rate) if rate else "?"
        text = f"{self.label}: {self.done:.0f}/{self.total:.0f} {self.unit}, {rate:.1f}/s"
        return f"{text}, {left} left{', ' + note if note else ''}"

    def close(self) -> None:
        """Remove the bar and log the total in one line."""
        if self._bar is not None:
            self._bar.close()
        spent = time.monotonic() - self._started
        log.info(f"{self.label}: {self.done:.0f} {self.unit} in {spent:.1f} s")
