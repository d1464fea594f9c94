"""Call `start_check` before the first job, in a process of its own.

Snakemake imports this module, so nothing here needs torch.
"""

import ast
import contextlib
import hashlib
import json
import os
import pickle
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from epic100.base.atomic import open_plain, write_text
from epic100.base.errors import EpicError
from epic100.settings import Settings

MODULE = "epic100.training.start_check"
LIMIT_SECONDS = 300
NEEDED = ("epic100", "torch", "mmaction", "mmengine")
# The last line of the file begins so; a digest of what was checked follows.
MARK = "checked: "


@dataclass(frozen=True)
class Asked:
    """What is checked, in plain values, because a rule has it as a parameter.

    Args:
        config: The config, as `Settings.only` stores it.
        recipe: The MMEngine config file.
        sheet: The video sheet.
        participants: The participants that the run uses.
        weights: The file of the start weights; None if there is none yet, or a random start.
        weights_to_come: URL of start weights that the run fetches, or "".
        fault: What is known to stop the run already, or "".
        remote: Whether jobs run on other machines, which may have the GPU that this one lacks.
    """

    config: dict[str, Any]
    recipe: str
    sheet: str
    participants: list[str]
    weights: str | None = None
    weights_to_come: str = ""
    fault: str = ""
    remote: bool = False

    def digest(self) -> str:
        """A digest of all this, and of size and time of the files that decide the result.

        These are the files that the config resolves to, defaults included, and all that the recipe
        is built from.
        """
        config = Settings.part(self.config)
        files = [*bases(self.recipe), self.sheet, self.weights or "", config.videos.root]
        files += [value for value in vars(config.annotations).values() if isinstance(value, str)]
        files += [str(path) for path in Path(config.modules.folder or os.devnull).rglob("*.py")]
        stats = {path: os.stat(path) for path in files if os.path.exists(path)}
        states = {path: (state.st_size, state.st_mtime_ns) for path, state in stats.items()}
        text = json.dumps([asdict(self), states], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def bases(recipe: str) -> list[str]:
    """An MMEngine config and, as far as text says, all that it is on top of (`_base_`)."""
    files = [os.path.abspath(recipe)]
    for file in files:  # The loop also walks the files that it adds.
        try:
            body = ast.parse(Path(file).read_text(encoding="utf-8")).body
        except (OSError, ValueError, SyntaxError):
            continue
        for node in body:
            match node:
                case ast.Assign(targets=[ast.Name(id="_base_")], value=value):
                    texts = [n.value for n in ast.walk(value) if isinstance(n, ast.Constant)]
                    base_paths = [os.path.join(os.path.dirname(file), str(text)) for text in texts]
                    files += [
                        path for path in map(os.path.abspath, base_paths) if path not in files
                    ]
    return files


def missing_packages() -> list[str]:
    """Packages that the check needs and this Python lacks, as where jobs run with `--sdm conda`."""
    return [name for name in NEEDED if find_spec(name) is None]


def passed_before(asked: Asked, file: str | os.PathLike) -> bool:
    """Whether `file` is the result of a passed check of the same settings and files."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return Path(file).read_text(encoding="utf-8").endswith(f"\n{MARK}{asked.digest()}\n")
    return False


def run_start_check(
    asked: Asked,
    file: str | os.PathLike,
    log_file: str | os.PathLike,
    must_finish: bool = False,
) -> str:
    """Run the start check; write its screen to `file`.

    Args:
        asked: What to check.
        file: The file to write.
        log_file: Gets what the libraries print, with the traceback of a setting that fails.
        must_finish: Whether a check that does not finish is an error; else it stops nothing.

    Returns:
        The screen, a line for each topic; or that the check did not finish.

    Raises:
        EpicError: Something stands in the way of the run: the screen. Or it must finish, and
            crashed or took too long.
    """
    digest, section = asked.digest(), asked.config.get("train", {})
    on_cpu = asked.remote or section.get("device") == "cpu" or section.get("gpus") == 0
    # MMEngine uses any GPU that it sees, so a check on the CPU hides them all.
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": ""} if on_cpu else {})
    with open(open_plain(log_file, os.O_WRONLY), "w", encoding="utf-8") as log:
        log.truncate(0)
        try:
            completed = subprocess.run(
                [sys.executable, "-P", "-m", MODULE],
                input=pickle.dumps(asked),
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                timeout=LIMIT_SECONDS,
                check=False,
            )
            passed, text = json.loads(completed.stdout.splitlines()[-1])
        except (subprocess.TimeoutExpired, IndexError, ValueError) as error:
            reason = f"the start check did not finish; {log_file} has the details"
            if must_finish:
                raise EpicError(reason) from error
            return reason
    if not passed:
        raise EpicError(text)
    write_text(file, f"{text}\n{MARK}{digest}\n")
    return text
