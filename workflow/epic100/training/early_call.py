"""Call the start check before the first job, in a process of its own.

Snakemake imports this module, so nothing here needs torch.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from epic100.base.atomic import atomic_path
from epic100.base.errors import EpicError
from epic100.segments.pairs import pairs_path

MODULE = "epic100.training.early_check"
LIMIT_SECONDS = 300
NEEDED = ("epic100", "torch", "mmaction", "mmengine")
MARK = "checked: "  # last line of the file: what exactly was checked


@dataclass(frozen=True)
class EarlyCheck:
    """What is checked, in plain values, because it is sent as JSON.

    Args:
        settings: The `train:` section; its `load_from` is a file or None.
        weights_to_come: URL of start weights that are not fetched yet, or "".
        annotations: The annotation file of each split.
        sheet: The video sheet.
        video_root: The folder of the videos.
        participants: The participants that the run uses.
        results: The folder of the results.
        num_verbs: Verb classes of the challenge.
        num_nouns: Noun classes of the challenge.
        reading: The other arguments of `load_annotations`.
        annotations_to_come: Whether the run fetches or makes missing annotations.
        videos_to_come: Whether the run fetches or makes missing videos.
        remote: Whether jobs run on other machines, which may have the GPU that this one lacks.
        modules: The config's `modules` section.
        views: `clips` and `crops` of the `predict:` section.
    """

    settings: dict[str, Any]
    weights_to_come: str
    annotations: dict[str, str]
    sheet: str
    video_root: str
    participants: list[str]
    results: str
    num_verbs: int
    num_nouns: int
    reading: dict[str, Any]
    annotations_to_come: bool = False
    videos_to_come: bool = False
    remote: bool = False
    modules: dict[str, Any] = field(default_factory=dict)
    views: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Convert to JSON text."""
        return json.dumps(asdict(self), sort_keys=True)

    def digest(self) -> str:
        """A digest of the settings, and of size and time of the files that decide the result."""
        files = [self.settings["config"], self.sheet, *self.annotations.values()]
        files += [self.settings["load_from"] or "", self.video_root]
        files.append(pairs_path(self.results, self.settings["split"]))
        seen = [self.to_json(), *map(_state, files)]
        return hashlib.sha256("\n".join(seen).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Outcome:
    """Result of a start check.

    Args:
        text: The screen: one line per topic.
        error: The first thing that would stop the run, or "".
    """

    text: str
    error: str


def missing_packages() -> list[str]:
    """Packages that the check needs and this Python lacks, as where jobs run with `--sdm conda`."""
    return [name for name in NEEDED if find_spec(name) is None]


def passed_before(check: EarlyCheck, file: str | os.PathLike) -> bool:
    """Whether `file` is the result of a passed check of the same settings and files."""
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return False
    return bool(lines) and lines[-1] == MARK + check.digest()


def run_early_check(
    check: EarlyCheck,
    file: str | os.PathLike,
    log_file: str | os.PathLike,
    must_finish: bool = False,
) -> Outcome:
    """Run the start check; write its screen to `file` if nothing stands in the way of the run.

    Args:
        check: What to check.
        file: The file to write.
        log_file: Gets what the libraries print, with the traceback of a setting that fails.
        must_finish: Whether a check that does not finish is an error; else it stops nothing.

    Returns:
        The screen and the first error.

    Raises:
        EpicError: It must finish, and crashed or took too long.
    """
    digest = check.digest()
    answer = _answer(check, Path(log_file))
    if answer is None:
        reason = f"the start check did not finish; {log_file} has the details"
        if must_finish:
            raise EpicError(reason)
        return Outcome(reason, "")
    outcome = Outcome(answer["text"], answer["error"])
    if not outcome.error:
        with atomic_path(file) as temporary:
            temporary.write_text(f"{outcome.text}\n{MARK}{digest}\n", encoding="utf-8")
    return outcome


def _answer(check: EarlyCheck, log_file: Path) -> Mapping[str, str] | None:
    """The child's last line; None if it crashed or took too long."""
    environment = dict(os.environ)
    if check.remote or check.settings["device"] == "cpu" or check.settings["gpus"] == 0:
        environment["CUDA_VISIBLE_DEVICES"] = ""  # MMEngine uses any GPU that it sees
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with open(log_file, "w", encoding="utf-8") as log:
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-m", MODULE], input=check.to_json(), text=True,
                stdout=subprocess.PIPE, stderr=log, env=environment, timeout=LIMIT_SECONDS,
                check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return None
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return None
    return answer if isinstance(answer, dict) else None


def _state(path: str) -> str:
    try:
        state = os.stat(path)
    except OSError:
        return f"{path} none"
    return f"{path} {state.st_size} {state.st_mtime_ns}"
