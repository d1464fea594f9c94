"""Ask a process of its own, before the first job, whether a training would work.

Snakemake imports this module, so nothing here needs torch. `inputs.start_check` runs in that
process.
"""

import ast
import contextlib
import hashlib
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from epic100.base.atomic import open_plain, write_text
from epic100.base.errors import EpicError
from epic100.base.shipped import ROOT, existing_path
from epic100.download.weights import StartWeights, fault_of, start_weights
from epic100.settings import START_CHECK_KEYS, Settings

MODULE = "epic100.inputs.start_check"
LOG = "results/logs/start_check.log"
# A check that takes longer is ended, and then it stops no run.
LIMIT_SECONDS = 300
# The start check imports these packages.
NEEDED = ("epic100", "torch", "mmaction", "mmengine")
# The last line of a stored report begins with this; a digest of what was checked follows.
MARK = "checked: "


@dataclass(frozen=True)
class StartCheckRequest:
    """The training to check, in plain values, because a rule has it as a parameter.

    Attributes:
        config: The config of one run, as `Settings.only` stores it.
        recipe: The MMEngine config file.
        weights: The start weights; None for a random start.
        report_path: The file for the report of a check that passes.
        folder: The folder of the files that ship with the workflow.
        remote: Whether jobs run on other machines, which may have a GPU even if this one has none.
    """

    config: dict[str, Any]
    recipe: str
    weights: StartWeights | None
    report_path: str
    folder: str
    remote: bool = False

    @classmethod
    def of(
        cls,
        config: Settings,
        run: str | None,
        folder: str | os.PathLike = ROOT,
        remote: bool = False,
    ) -> "StartCheckRequest":
        """Make the request for the start check of a run, and find its recipe and start weights.

        Args:
            config: The config.
            run: The name of the run; None is the default run.
            folder: The folder of the files that ship with the workflow.
            remote: Whether jobs run on other machines.

        Raises:
            EpicError: As in `start_weights`.
        """
        run_config = config.of_run(run)
        recipe = existing_path(run_config.train.config, folder)
        return cls(
            config=run_config.only(*START_CHECK_KEYS),
            recipe=recipe,
            weights=start_weights(run_config.train, recipe),
            report_path=f"{config.home.format(run=run)}/start_check.txt",
            folder=str(folder),
            remote=remote,
        )

    @property
    def settings(self) -> Settings:
        """The config, without the keys that only decide which files are read."""
        return Settings.part(self.config)

    @property
    def fault(self) -> str:
        """What is wrong with the file of the start weights; "" if nothing is or it is to come."""
        weights = self.weights
        return fault_of(weights) if weights and not weights.needs_download else ""

    def digest(self) -> str:
        """Compute a digest of these values and of the files that decide the result of the check.

        These are the files that the config names, defaults included, and the recipe with its bases;
        their sizes and times are in the digest. It does not depend on the seed.
        """
        config = self.settings
        weights = [self.weights.path] if self.weights else []
        sheet = existing_path(config.videos.sheet, self.folder)
        files = [*bases(self.recipe), sheet, config.videos.root, *weights]
        files += [value for value in vars(config.annotations).values() if isinstance(value, str)]
        files += [str(path) for path in Path(config.modules.folder or os.devnull).rglob("*.py")]
        stats = {path: os.stat(path) for path in files if os.path.exists(path)}
        states = {path: (state.st_size, state.st_mtime_ns) for path, state in stats.items()}
        # Another seed would give the same result.
        train = self.config.get("train", {}) | {"seed": 0}
        checked = [self.config | {"train": train}, self.recipe, weights, self.remote, states]
        return hashlib.sha256(json.dumps(checked, sort_keys=True).encode()).hexdigest()[:16]

    def earlier_report(self) -> str:
        """Read the report of an earlier check of the same settings and files that passed, or ""."""
        # A report that cannot be read is as good as none: the check is run again.
        with contextlib.suppress(OSError, UnicodeDecodeError):
            # The report of a check that passed ends with a line of MARK and the digest.
            text, _, digest = (
                Path(self.report_path).read_text(encoding="utf-8").rpartition(f"\n{MARK}")
            )
            if digest == f"{self.digest()}\n":
                return text
        return ""


def distinct_requests(requests: Sequence[StartCheckRequest]) -> list[StartCheckRequest]:
    """Return one request for each digest: checks with the same digest have the same result."""
    first_by_digest: dict[str, StartCheckRequest] = {}
    for request in requests:
        first_by_digest.setdefault(request.digest(), request)
    return list(first_by_digest.values())


def bases(recipe: str) -> list[str]:
    """List the paths of an MMEngine config and of all its bases, as `_base_ = [...]` names them.

    Bases have bases of their own. A file that cannot be read is listed as well.
    """
    files = [os.path.abspath(recipe)]
    for file in files:  # The loop also walks the files that it adds.
        try:
            body = ast.parse(Path(file).read_text(encoding="utf-8")).body
        except (OSError, ValueError, SyntaxError):
            continue  # The check itself reports a config that MMEngine cannot read.
        for node in body:
            match node:
                case ast.Assign(targets=[ast.Name(id="_base_")], value=value):
                    texts = [
                        part.value for part in ast.walk(value) if isinstance(part, ast.Constant)
                    ]
                    base_paths = [os.path.join(os.path.dirname(file), str(text)) for text in texts]
                    files += [
                        path for path in map(os.path.abspath, base_paths) if path not in files
                    ]
    return files


def missing_packages() -> list[str]:
    """List the packages that the check needs and this Python does not have.

    With `--sdm conda`, only the jobs have them.
    """
    return [name for name in NEEDED if find_spec(name) is None]


def run_start_check(request: StartCheckRequest) -> str:
    """Run the start check, and write its report to `request.report_path`.

    The output of libraries goes to `LOG`, with the traceback of a setting that fails.

    Args:
        request: The training to check.

    Returns:
        The report, a line for each topic. If the check did not finish, it is one line that says so,
        and the run goes on.

    Raises:
        EpicError: The training would fail. The message is the report.
    """
    digest, section = request.digest(), request.config.get("train", {})
    # The GPU of another machine is not tried here.
    on_cpu = request.remote or section.get("device") == "cpu" or section.get("gpus") == 0
    # A link in place of the log is refused. A file that is open already is not emptied by "w".
    with open(open_plain(LOG, os.O_WRONLY), "w", encoding="utf-8") as log_file:
        log_file.truncate(0)
        answer = _answer("start_check", request, log_file, on_cpu=on_cpu)
    if answer is None:
        return f"Start check: it did not finish; {LOG} has the details"
    passed, text = answer
    if not passed:
        raise EpicError(text)
    write_text(request.report_path, f"{text}\n{MARK}{digest}\n")
    return text


def outlooks(requests: Sequence[StartCheckRequest]) -> list[str]:
    """Say for each training whether it would train, and how long, or take a finished model.

    Args:
        requests: The trainings.

    Returns:
        A text for each training, in the same order.
    """
    # Only a process that imports torch can say which runs are finished (`finished_runs`). The
    # import takes seconds, so one process answers for all runs. If no training has ended, none is
    # started.
    can_ask = any(Path().glob("results/work_dirs/*/model.pth")) and not missing_packages()
    finished_folders = (
        _answer("finished_runs", requests, subprocess.DEVNULL, on_cpu=True) if can_ask else None
    )
    # A process that did not finish tells nothing, so each training is said to train.
    pairs = zip(requests, finished_folders or [""] * len(requests), strict=True)
    return [_outlook(request, folder) for request, folder in pairs]


def _outlook(request: StartCheckRequest, finished: str) -> str:
    """Say what a training would do: train, with an estimate of the time, or take a finished model.

    Args:
        request: The training.
        finished: The folder of its finished run, or "".
    """
    if finished:
        return f"takes the finished model of {finished}, no step is trained"
    time = re.search(r"(?m)^ *time: (.*)", request.earlier_report())
    return f"trains, {time[1]}" if time else "trains; how long: epic100 check"


def _answer(function: str, question: Any, log: IO[str] | int, *, on_cpu: bool) -> Any:
    """Call a function of `MODULE` in a process of its own, and return its result.

    Args:
        function: Name of the function.
        question: Its argument.
        log: The file for stderr, or a constant of `subprocess`.
        on_cpu: Whether the process sees no GPU.

    Returns:
        What the function returned, through JSON; None if the process did not finish.
    """
    # MMEngine uses any GPU that it sees, so a process that works on the CPU sees none.
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": ""} if on_cpu else {})
    try:
        completed = subprocess.run(
            [sys.executable, "-P", "-m", MODULE, function],
            input=pickle.dumps(question),
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            timeout=LIMIT_SECONDS,
            check=False,
        )
        # Libraries may print when they are imported, but the result is the last line.
        return json.loads(completed.stdout.splitlines()[-1])
    except (subprocess.TimeoutExpired, IndexError, ValueError):
        return None  # A process that crashed has printed no line, or none in JSON.
