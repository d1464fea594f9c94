"""Run one or two real Slurm clusters on this machine, such as the two of KU Leuven.

All files are in one folder, and the daemons listen on ports of their own, so several rigs can run
at once beside another Slurm. The daemons are children of this process and end with it. They need
root, since each one mounts its cluster's settings on /etc/slurm for itself alone: there a real node
has its settings, and `srun` in a job looks for them. No test is here.
"""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ETC = Path(__file__).resolve().parent / "slurm_etc"
PROGRAMS = ("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd", "unshare", "setpriv")
ACCOUNT = "lp_epic"
# It prints the ids of all jobs that have not ended.
JOBS = ("squeue", "-o", "%A")


@dataclass(frozen=True)
class Layout:
    """The clusters of a site.

    Attributes:
        site: The folder of slurm_etc with the settings of all clusters of the site. Those of one
            cluster are in the folder of its name.
        login: The cluster whose settings the login node has.
        first_jobs: The first job id of each cluster.
        nodes: The names of the nodes of each cluster.
        accounting: Whether the site has slurmdbd and sacct.
    """

    site: str
    login: str
    first_jobs: Mapping[str, int]
    nodes: Mapping[str, Sequence[str]]
    accounting: bool = True


VSC = Layout(
    site="vsc",
    login="genius",
    # The ids are as far apart as on VSC.
    first_jobs={"genius": 50000001, "wice": 60000001},
    nodes={"genius": ("r26g03",), "wice": ("m28c27n1", "m28c27n2", "m28c31n1", "m28c30n1")},
)
# This is one cluster without accounting. Its jobs take no `--clusters`.
HOME = Layout(
    site="home",
    login="home",
    first_jobs={"home": 1},
    nodes={"home": ("node1", "node2")},
    accounting=False,
)
# The maximum time of a daemon or a command on a busy machine, in seconds.
SECONDS = 300.0
# Bash gets the folder of the settings as its name, and the command as its arguments.
IN_MOUNT = 'mount --bind "$0" /etc/slurm && exec "$@"'


def missing() -> str | None:
    """Say why no rig can be started on this machine; None if one can."""
    if os.geteuid() != 0:
        return "Slurm's daemons need root"
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"Slurm is not installed (no {', '.join(absent)})" if absent else None


class Rig:
    """The Slurm clusters of a layout.

    Attributes:
        folder: The folder of all their files.
        layout: The layout.
        daemons: The processes that run, by name, such as "slurmd-r26g03".
    """

    def __init__(self, folder: Path, layout: Layout = VSC):
        """Reserve the ports of the daemons."""
        self.folder = folder
        self.layout = layout
        self.daemons: dict[str, subprocess.Popen] = {}
        # Each daemon has its cluster, its command, and a command that succeeds when it is up.
        self._programs: dict[str, tuple[str, Sequence[str], Sequence[str]]] = {}
        self._reservation, self._ports = _reserve_ports(20)
        self._dbd_port = next(self._ports)
        self._sql_port = next(self._ports)

    def start(self) -> None:
        """Start munge, the database, the controllers and the nodes."""
        Path("/etc/slurm").mkdir(exist_ok=True)
        (self.folder / "dev").mkdir(parents=True)
        # Devices like /dev/null (1, 3) stand in for GPUs.
        for number in range(8):
            os.mknod(self.folder / f"dev/nvidia{number}", 0o666 | 0o020000, os.makedev(1, 3))
        for cluster, first in self.layout.first_jobs.items():
            self._configure(cluster, first)
        self._start_munge()
        if self.layout.accounting:
            self._start_accounting()
        for cluster, nodes in self.layout.nodes.items():
            self._start(f"slurmctld-{cluster}", JOBS, "slurmctld", "-D", cluster=cluster)
            for node in nodes:
                (self.folder / cluster / "spool" / node).mkdir(parents=True)
                self._start(f"slurmd-{node}", ["true"], "slurmd", "-D", "-N", node, cluster=cluster)
        self.wait(self.is_free, "the nodes")

    def stop(self) -> None:
        """End every daemon, nodes first."""
        for name in reversed(list(self.daemons)):
            self.end(name)

    def clear(self) -> None:
        """Start daemons that a test has ended, cancel all jobs, and resume all nodes."""
        for name in self._programs:
            self.bring(name)
        if not self.is_free():
            for cluster in self.layout.nodes:
                if jobs := self._column(cluster, *JOBS):
                    self.at(cluster, "scancel", *jobs, check=False)
                nodes = f"NodeName={','.join(self.layout.nodes[cluster])}"
                self.at(cluster, "scontrol", "update", nodes, "State=RESUME", check=False)
            self.wait(self.is_free, "an empty queue")

    def is_free(self) -> bool:
        """Whether no job is in any queue, not even an ending one, and all nodes are idle."""
        idle = ("sinfo", "-N", "-t", "idle", "-o", "%N")
        return not any(
            self._column(cluster, *JOBS) or set(nodes) - set(self._column(cluster, *idle))
            for cluster, nodes in self.layout.nodes.items()
        )

    def bring(self, name: str) -> None:
        """Start one daemon, unless it runs, and wait until it answers."""
        if name not in self.daemons or self.daemons[name].poll() is not None:
            cluster, command, ask = self._programs[name]
            with (self.folder / f"{name}.out").open("ab") as log:
                self.daemons[name] = subprocess.Popen(
                    ["setpriv", "--pdeathsig", "TERM", *self.on(cluster, command)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            self.wait(lambda: not self.at(cluster, *ask, check=False).returncode, name)

    def end(self, name: str) -> None:
        """Stop one daemon, by its process."""
        daemon = self.daemons.pop(name)
        daemon.terminate()
        daemon.wait(SECONDS)

    def login(self, *command: str, check: bool = True) -> subprocess.CompletedProcess:
        """Run a command as on the login node; stdout and stderr come back as text."""
        return self.at(self.layout.login, *command, check=check)

    def at(self, cluster: str, *command: str, check: bool = True) -> subprocess.CompletedProcess:
        """Run a command as on a node of that cluster; stdout and stderr come back as text."""
        done = subprocess.run(
            self.on(cluster, command), capture_output=True, text=True, timeout=SECONDS
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done

    def on(self, cluster: str, command: Sequence[str]) -> list[str]:
        """Return a command that runs `command` with that cluster's settings in /etc/slurm."""
        mount = ["unshare", "-m", "--propagation", "private", "bash", "-c", IN_MOUNT]
        return [*mount, str(self.folder / cluster / "etc"), *command]

    def jobs(self, *options: str, fields: str) -> list[dict[str, str]]:
        """Ask sacct about jobs on all clusters: a dict of the fields of each job."""
        # The field SubmitLine may have bars in it, so it must be the last one.
        names = fields.split(",")
        done = self.login(
            "sacct",
            "-X",
            "-n",
            "-P",
            "-M",
            "all",
            "-S",
            "now-1hour",
            f"--format={fields}",
            *options,
        )
        rows = [line.split("|", len(names) - 1) for line in done.stdout.splitlines()]
        return [dict(zip(names, row, strict=True)) for row in rows]

    def submit(self, *options: str, cluster: str = "wice", partition: str = "batch") -> str:
        """Submit a job that is not of the workflow, and return its id."""
        done = self.login(
            "sbatch",
            "-M",
            cluster,
            "-p",
            partition,
            "-A",
            ACCOUNT,
            "--parsable",
            "-o",
            "/dev/null",
            *options,
            "--wrap",
            "sleep 600",
        )
        return done.stdout.split(";")[0]

    def state(self, job: str) -> str:
        """Ask sacct for the state of a job; "" if sacct does not know the job yet."""
        return "".join(row["State"] for row in self.jobs("-j", job, fields="State"))

    def submitted(self, folder: Path) -> list[str]:
        """List the ids of all jobs that were ever submitted for a working directory."""
        # A job's comment is stored only when it has ended, so its SubmitLine is read.
        jobs = self.jobs(fields="JobID,SubmitLine")
        return [job["JobID"] for job in jobs if f"{folder}/" in job["SubmitLine"]]

    def queue(self, folder: Path) -> list[str]:
        """List the ids of the jobs of a working directory that have not ended."""
        lines = self.login("squeue", "-h", "-M", "all", "-O", "JobID:20,StdOut:400").stdout
        return re.findall(rf"^(\d+) +{re.escape(str(folder))}/", lines, re.MULTILINE)

    def wait(self, true: Callable[[], object], what: str, seconds: float = SECONDS):
        """Wait until `true()` gives something, and return it; `what` names it in errors."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if result := true():
                return result
            dead = [name for name, daemon in self.daemons.items() if daemon.poll() is not None]
            if dead:
                raise RuntimeError(f"{dead} ended while waiting for {what}; see {self.folder}")
            time.sleep(0.2)
        raise TimeoutError(f"{what}: not within {seconds} s; see {self.folder}")

    def _column(self, cluster: str, *command: str) -> list[str]:
        """Run a command that prints one word a line, and return the words."""
        return self.at(cluster, *command, "-h", check=False).stdout.split()

    def _configure(self, cluster: str, first_job: int) -> None:
        """Write the settings of a cluster, from the files of slurm_etc with their `@NAMES@`."""
        etc = self.folder / cluster / "etc"
        etc.mkdir(parents=True)
        (self.folder / cluster / "state").mkdir()
        names = {
            "RUN": self.folder,
            "HOST": socket.gethostname(),
            "CLUSTER": cluster,
            "FIRST_JOB": first_job,
            "DBD_PORT": self._dbd_port,
            "SQL_PORT": self._sql_port,
        }
        sources = [ETC / name for name in ("every", self.layout.site, cluster)]
        for source in {path for folder in sources for path in folder.iterdir()}:
            text = re.sub("@PORT@", lambda _: str(next(self._ports)), source.read_text())
            for key, value in names.items():
                text = text.replace(f"@{key}@", str(value))
            (etc / source.name).write_text(text)
            (etc / source.name).chmod(0o600)

    def _start_munge(self) -> None:
        """Start the daemon that signs messages between Slurm's daemons."""
        key = self.folder / "munge.key"
        socket = f"{self.folder}/munge.socket"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        files = [f"--{name}-file={self.folder}/munged.{name}" for name in ("log", "seed", "pid")]
        self._start(
            "munged",
            ("test", "-S", socket),
            "munged",
            "-F",
            "--force",
            "--num-threads=4",
            f"--key-file={key}",
            f"--socket={socket}",
            *files,
        )

    def _start_accounting(self) -> None:
        """Start the database of jobs, and add the clusters, two accounts and two users."""
        self._start_mariadb()
        self._start("slurmdbd", ("sacctmgr", "-n", "list", "user"), "slurmdbd", "-D")
        everywhere = f"Cluster={','.join(self.layout.nodes)}"
        accounts = f"{ACCOUNT},lp_poor"
        for added in (
            ("cluster", *self.layout.nodes),
            ("account", accounts, everywhere, "Description=x"),
            ("user", "root,nobody", everywhere, f"Account={accounts}"),
        ):
            self.login("sacctmgr", "-i", "add", *added)

    def _start_mariadb(self) -> None:
        """Start MariaDB, with a database and a user for slurmdbd."""
        sock = self.folder / "mysqld.sock"
        (self.folder / "tmp").mkdir()
        # A server that starts removes all temporary tables in its folder, also the tables of
        # others.
        own = (
            "--no-defaults",
            "--user=root",
            f"--datadir={self.folder}/mysql",
            f"--tmpdir={self.folder}/tmp",
        )
        self.login(
            "mariadb-install-db", *own, "--skip-test-db", "--auth-root-authentication-method=normal"
        )
        rights = "; ".join(
            f"create user if not exists slurm@'{host}' identified by 'slurm'; "
            f"grant all on slurm_acct_db.* to slurm@'{host}'"
            for host in ("127.0.0.1", "localhost")
        )
        create = (
            "mariadb",
            "--no-defaults",
            "-S",
            str(sock),
            "-u",
            "root",
            "-e",
            f"create database if not exists slurm_acct_db; {rights}",
        )
        self._start(
            "mariadbd",
            create,
            "mariadbd",
            *own,
            f"--socket={sock}",
            "--bind-address=127.0.0.1",
            f"--port={self._sql_port}",
            "--skip-log-bin",
            "--innodb-buffer-pool-size=64M",
            "--innodb-lock-wait-timeout=900",
        )

    def _start(self, name: str, ask: Sequence[str], *command: str, cluster: str = "") -> None:
        """Start a daemon, which is up as soon as the command `ask` succeeds there."""
        self._programs[name] = (cluster or self.layout.login, command, ask)
        self.bring(name)


@contextmanager
def running(folder: Path, layout: Layout) -> Iterator[Rig]:
    """Run a rig during a block; without Slurm's daemons the test is skipped."""
    if why := missing():
        if os.environ.get("EPIC100_SLURM_TESTS") == "required":
            pytest.fail(f"the tests on Slurm are required here, but {why}")
        pytest.skip(f"no test on real Slurm: {why}; .ci/run names the packages")
    rig = Rig(folder, layout)
    try:
        rig.start()
        yield rig
        rig.clear()
    finally:
        rig.stop()


def _reserve_ports(count: int) -> tuple[socket.socket, Iterator[int]]:
    """Reserve ports that no other rig takes while the returned socket is open.

    They are below those that the system gives to clients, so that a daemon that starts again finds
    its port free.
    """
    for first in range(20000, 32000, 50):
        ports = range(first, first + count)
        reservation = socket.socket(socket.AF_UNIX)
        try:
            reservation.bind(f"\0epic100-slurm-ports-{first}")
        except OSError:
            # Another rig has these ports.
            reservation.close()
            continue
        if not any(map(_listens, ports)):
            return reservation, iter(ports)
        reservation.close()
    raise RuntimeError("no ports are free for a rig of Slurm")


def _listens(port: int) -> bool:
    """Whether a program of this machine listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
