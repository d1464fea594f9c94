"""Check the installed snakemake-executor-plugin-slurm: its version and its two known hangs.

The hangs are tested by what the executor does, not by its version. A release that includes the
patches of contrib/upstream, or similar ones, does not need the `sacct` wrapper's workarounds.
"""

import asyncio
import logging
import shlex
import sys
from collections.abc import Callable
from importlib.metadata import version
from types import SimpleNamespace
from unittest.mock import patch

PLUGIN = "snakemake-executor-plugin-slurm"
KNOWN = ("2.8.0",)  # versions tested by tests/slurm
SILENT = logging.Logger("silent", logging.CRITICAL)


def hangs() -> list[str]:
    """Short descriptions of the hangs that the installed executor has."""
    known: list[tuple[str, Callable[[], bool]]] = [
        ("a job cancelled by hand counts as running", knows_cancelled),
        ("jobs are forgotten when sacct fails", keeps_jobs),
    ]
    return [hang for hang, is_mended in known if not _safely(is_mended)]


def unknown_version() -> str:
    """A warning if the executor's version was not tested; else ""."""
    found = version(PLUGIN)
    if found in KNOWN:
        return ""
    return (
        f"{PLUGIN} {found} is installed, and this workflow was tested with {', '.join(KNOWN)}: "
        "if it hangs, install that one"
    )


def knows_cancelled() -> bool:
    """Whether the executor treats `CANCELLED by 1000`, sacct's state, as the end of a job."""
    from snakemake_executor_plugin_slurm.job_status_query import query_job_status

    command = shlex.join([sys.executable, "-c", "print('1|CANCELLED by 1000')"])
    states, _ = asyncio.run(query_job_status(command, SILENT))
    return bool(states == {"1": "CANCELLED"})


def keeps_jobs() -> bool:
    """Whether the executor keeps its jobs after a poll in which every query failed."""
    import snakemake_executor_plugin_slurm as plugin

    executor = plugin.Executor.__new__(plugin.Executor)
    settings = SimpleNamespace(status_attempts=1, init_seconds_before_status_checks=1)
    state: dict[str, object] = {
        "workflow": SimpleNamespace(executor_settings=settings),
        "logger": SILENT,
        "run_uuid": "none",
        "status_rate_limiter": _Open(),
        "next_seconds_between_status_checks": 1,
        "get_status_command": lambda: "sacct",
        "_status_query_calls": 0,
        "_status_query_failures": 0,
        "_status_query_cycle_rows": [],
    }
    for name, value in state.items():
        setattr(executor, name, value)
    job = SimpleNamespace(external_jobid="1", aux={})

    async def fail(command: str, logger: logging.Logger) -> tuple[None, None]:
        return None, None

    async def poll() -> list[object]:
        return [kept async for kept in executor.check_active_jobs([job])]

    with patch.multiple(
        plugin,
        query_job_status=fail,
        get_min_job_age=lambda: 300,
        is_query_tool_available=lambda tool: True,
    ):
        return asyncio.run(poll()) == [job]


class _Open:
    async def __aenter__(self) -> None:
        """Replaces the executor's rate limiter and never waits."""

    async def __aexit__(self, *error: object) -> None:
        """Nothing to release."""


def _safely(question: Callable[[], bool]) -> bool:
    """The answer, or False if the executor's code is too different to be tested."""
    try:
        return question()
    except Exception:
        return False
