"""What is known of the installed snakemake-executor-plugin-slurm: its version, and its two hangs.

A hang is looked for in what the executor does, not in its version: a release that has the patches
of contrib/upstream, or others to the same end, needs no mended `sacct`.
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
KNOWN = ("2.8.0",)  # versions that tests/slurm has run with
SILENT = logging.Logger("silent", logging.CRITICAL)


def hangs() -> list[str]:
    """The hangs that the installed executor has, each in a few words."""
    known: list[tuple[str, Callable[[], bool]]] = [
        ("a job cancelled by hand counts as running", knows_cancelled),
        ("jobs are forgotten when sacct fails", keeps_jobs),
    ]
    return [hang for hang, is_mended in known if not _safely(is_mended)]


def unknown_version() -> str:
    """A warning where the executor's version is one that was not tested; else ""."""
    found = version(PLUGIN)
    if found in KNOWN:
        return ""
    return (
        f"{PLUGIN} {found} is installed, and this workflow was tested with {', '.join(KNOWN)}: "
        "if it hangs, install that one"
    )


def knows_cancelled() -> bool:
    """Whether `CANCELLED by 1000`, as sacct has it, is the end of a job for the executor."""
    from snakemake_executor_plugin_slurm.job_status_query import query_job_status

    command = shlex.join([sys.executable, "-c", "print('1|CANCELLED by 1000')"])
    states, _ = asyncio.run(query_job_status(command, SILENT))
    return bool(states == {"1": "CANCELLED"})


def keeps_jobs() -> bool:
    """Whether the executor still has its jobs after a poll in which each query failed."""
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
        """Let everyone in at once, where the executor limits its rate."""

    async def __aexit__(self, *error: object) -> None:
        """Nothing to undo."""


def _safely(question: Callable[[], bool]) -> bool:
    """Its answer; no, where the executor is built so differently that it cannot be asked."""
    try:
        return question()
    except Exception:
        return False
