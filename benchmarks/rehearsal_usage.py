"""What each rule of a run and its main process cost, as /proc shows it while they run.

Once in `EVERY` seconds all processes below the main one are looked at. A process belongs to the
rule whose script it or a process above it runs; rules of `call.py` go by the function that they
call. Its figures contain those of the processes that it has waited for; so they miss what a rule
does after the last look. Memory is `Pss`: pages that several processes share are counted once.
"""

import re
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from os import sysconf
from pathlib import Path
from time import monotonic

EVERY = 0.5
MAIN, UNSEEN = "main process", "not seen"
_SCRIPT = re.compile(r"/\S+scripts/tmp[^/]*\.(\w+)\.py")
_FUNCTION = re.compile(r"epic100\.[\w.]+:(\w+)")  # which the door `call.py` of many rules calls
_TICKS = sysconf("SC_CLK_TCK")
MB = 1e6


@dataclass
class Cost:
    """What the jobs of a rule cost; seconds and MB, memory of the largest job."""

    jobs: int = 0
    wall: float = 0.0
    cpu: float = 0.0
    memory: float = 0.0
    read: float = 0.0
    written: float = 0.0

    def add(self, other: "Cost") -> None:
        """Add the cost of other jobs."""
        for name, value in asdict(other).items():
            own = getattr(self, name)
            setattr(self, name, max(own, value) if name == "memory" else own + value)


@dataclass(eq=False)
class _Job:
    """A script's first process; `top` is its rule."""

    top: str
    began: float
    cost: Cost = field(default_factory=Cost)


class Watch(threading.Thread):
    """Looks at the processes below `main` until `stop`; then `costs` has those of each rule."""

    def __init__(self, main: int):
        super().__init__(daemon=True)
        self._number, self._ended = main, threading.Event()
        self._main = _Job(MAIN, monotonic())
        self._jobs = [self._main]
        self._owners = {main: self._main}  # the job of each process that was there at the last look

    @property
    def rules(self) -> set[str]:
        """The rules that were seen."""
        return {job.top for job in list(self._jobs)}

    def run(self) -> None:
        """Look until the end."""
        while not self._ended.wait(EVERY):
            self._look()

    def stop(self, cpu: float) -> dict[str, Cost]:
        """End, and tell what each rule cost.

        Args:
            cpu: Seconds that all took together, as the system says.
        """
        self._ended.set()
        self.join()
        costs: dict[str, Cost] = {}
        for job in self._jobs:
            costs.setdefault(job.top, Cost()).add(job.cost)
        costs[UNSEEN] = Cost(cpu=max(cpu - sum(cost.cpu for cost in costs.values()), 0.0))
        main = costs[MAIN]  # whose bytes contain those of all jobs that it has waited for
        for name in ("read", "written"):
            jobs = sum(getattr(cost, name) for cost in costs.values() if cost is not main)
            setattr(main, name, max(getattr(main, name) - jobs, 0.0))
        return costs

    def _look(self) -> None:
        parents = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError, ValueError):
                    # After the name, which may hold spaces: state, parent.
                    parents[int(entry.name)] = int(_stat(int(entry.name))[1])
        # The number of a process that ended may be given to any other.
        self._owners = {number: job for number, job in self._owners.items() if number in parents}
        found: dict[_Job, Cost] = {}
        for process in sorted(parents):
            with suppress(OSError, ValueError):
                job = self._owner(process, parents)
                if job is None or (job is self._main and process != self._number):
                    continue  # of no rule, or about to run one
                cost = _cost(process, with_children=job is not self._main)
                found.setdefault(job, Cost()).add(Cost(**cost | {"memory": 0.0}))
                found[job].memory += cost["memory"]
        for job, now in found.items():
            job.cost = Cost(
                1,
                monotonic() - job.began,
                *(max(getattr(now, name), getattr(job.cost, name))
                  for name in ("cpu", "memory", "read", "written")),
            )  # fmt: skip

    def _owner(self, process: int, parents: dict[int, int]) -> _Job | None:
        """The job of a process; None if it is not below the main one."""
        if process in self._owners or process not in parents:
            return self._owners.get(process)
        above = self._owner(parents[process], parents)
        if above is self._main:
            told = Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")
            if script := _SCRIPT.search(told):
                called = script[1] == "call" and _FUNCTION.search(Path(script[0]).read_text())
                above = _Job((called or script)[1], monotonic())
                self._jobs.append(above)
        if above is not None:
            self._owners[process] = above
        return above


def _stat(process: int) -> list[str]:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()


def _cost(process: int, with_children: bool) -> dict[str, float]:
    """What a process has cost so far, with those that it has waited for, as `Cost` has it."""
    times = _stat(process)[11 : 15 if with_children else 13]
    facts = {"cpu": sum(map(int, times)) / _TICKS}
    for line in Path(f"/proc/{process}/io").read_text().splitlines():
        name, _, value = line.partition(": ")
        facts[name] = int(value) / MB
    rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
    pss = re.search(r"^Pss: +(\d+)", rollup, re.MULTILINE)
    return {
        "cpu": facts["cpu"],
        "memory": int(pss[1]) * 1024 / MB if pss else 0.0,
        "read": facts["rchar"],
        "written": facts["wchar"],
    }
