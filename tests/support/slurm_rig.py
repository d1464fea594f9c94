"""Real Slurm clusters on one machine: two with partitions named as KU Leuven names them, or one.

Everything lives in one folder and on ports that were free at the start; whatever else runs Slurm
on the machine is not touched. Daemons are children of this process and die with it. Needs root,
for a private mount of /etc/slurm in each of them: that is where a real node has its own cluster's
settings, and where `srun` inside a job looks for them.
"""

import os
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
PROGRAMS = (
    "slurmctld",
    "slurmd",
    "slurmdbd",
    "munged",
    "mariadbd",
    "mariadb",
    "unshare",
    "setpriv",
)
ACCOUNT = "lp_epic"


@dataclass(frozen=True)
class Layout:
    """The clusters of a site, by name: first job id and nodes. `login` is where people log in;
    `submit` is the site's filter of submissions, a file of slurm_etc."""

    login: str
    first_jobs: Mapping[str, int]
    nodes: Mapping[str, Sequence[str]]
    submit: str


VSC = Layout(
    login="genius",
    first_jobs={"genius": 50000001, "wice": 60000001},  # as far apart as on VSC
    nodes={"genius": ("r26g03",), "wice": ("m28c27n1", "m28c27n2", "m28c31n1", "m28c30n1")},
    submit="job_submit.lua",
)
# One cluster, with partitions of its own, whose jobs take no `--clusters`.
HOME = Layout("home", {"home": 1}, {"home": ("node1", "node2")}, "job_submit_home.lua")
NODES = VSC.nodes
SECONDS = 60.0  # how long any daemon may take
IN_MOUNT = 'mount --bind "$0" /etc/slurm && exec "$@"'


def missing() -> str | None:
    """Why no rig can be started here, or None."""
    if os.geteuid() != 0:
        return "Slurm's daemons need root"
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"Slurm is not installed (no {', '.join(absent)})" if absent else None


class Rig:
    """Both clusters, their database, and what tests do to them."""

    def __init__(self, folder: Path, layout: Layout = VSC):
        self.folder = folder
        self.layout, self.login_cluster = layout, layout.login
        self.daemons: dict[str, subprocess.Popen] = {}
        ports = iter(_free_ports(4 + 2 * len(layout.nodes) + sum(map(len, layout.nodes.values()))))
        self._names = {
            "RUN": str(folder),
            "HOST": socket.gethostname(),
            "DBD_PORT": str(next(ports)),
            "SQL_PORT": str(next(ports)),
        }
        self._ports = ports

    def start(self) -> None:
        """Bring up munge, the database, the controllers and the nodes, in seconds."""
        Path("/etc/slurm").mkdir(exist_ok=True)
        (self.folder / "dev").mkdir(parents=True)
        for number in range(8):
            os.mknod(self.folder / f"dev/nvidia{number}", 0o666 | 0o020000, os.makedev(1, 3))
        for cluster, first in self.layout.first_jobs.items():
            self._configure(cluster, first)
        self._start_munge()
        self._start_mariadb()
        self.start_database()
        self.login("sacctmgr", "-i", "add", "cluster", *self.layout.nodes)
        for account in (ACCOUNT, "lp_poor"):
            both = f"Cluster={','.join(self.layout.nodes)}"
            self.login("sacctmgr", "-i", "add", "account", account, both, "Description=x")
            for user in ("root", "nobody"):
                self.login("sacctmgr", "-i", "add", "user", user, both, f"Account={account}")
        for cluster, nodes in self.layout.nodes.items():
            self.start_controller(cluster)
            for node in nodes:
                self.start_node(cluster, node)
        for cluster, nodes in self.layout.nodes.items():
            self.wait(lambda c=cluster, n=nodes: self.idle(c) == len(n), f"the nodes of {cluster}")

    def stop(self) -> None:
        """Cancel what runs and end every daemon, nodes first."""
        if all(f"slurmctld-{cluster}" in self.daemons for cluster in self.layout.nodes):
            where = ("-M", ",".join(self.layout.nodes))
            for user in ("root", "nobody"):
                self.login("scancel", *where, "-u", user, check=False)
            time.sleep(1)
        for name in reversed(list(self.daemons)):
            self.end(name)

    def start_database(self) -> None:
        self._daemon("slurmdbd", "slurmdbd", "-D")
        self.wait(lambda: _listens(int(self._names["DBD_PORT"])), "slurmdbd")
        self.wait(lambda: self.login("sacctmgr", "-n", "list", "user", check=False).returncode == 0,
                  "slurmdbd's answer")  # fmt: skip

    def start_controller(self, cluster: str) -> None:
        self._daemon(f"slurmctld-{cluster}", "slurmctld", "-D", cluster=cluster)
        ping = ("scontrol", "-M", cluster, "ping")
        self.wait(lambda: "is UP" in self.login(*ping, check=False).stdout, f"slurmctld {cluster}")

    def start_node(self, cluster: str, node: str) -> None:
        (self.folder / cluster / "spool" / node).mkdir(parents=True, exist_ok=True)
        self._daemon(f"slurmd-{node}", "slurmd", "-D", "-N", node, cluster=cluster)

    def end(self, name: str, hard: bool = False) -> None:
        """Stop one daemon, by its process."""
        daemon = self.daemons.pop(name)
        daemon.kill() if hard else daemon.terminate()
        try:
            daemon.wait(20)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def idle(self, cluster: str) -> int:
        done = self.login("sinfo", "-h", "-M", cluster, "-N", "-t", "idle", "-o", "%N", check=False)
        return len({line for line in done.stdout.split() if line in self.layout.nodes[cluster]})

    def login(self, *command: str, check: bool = True) -> subprocess.CompletedProcess:
        """Run a command as on the login node; stdout and stderr come back as text."""
        return self.at(self.login_cluster, *command, check=check)

    def at(self, cluster: str, *command: str, check: bool = True) -> subprocess.CompletedProcess:
        """Run a command as on a node of that cluster, which needs no database to find it."""
        done = subprocess.run(
            self.on(cluster, command), capture_output=True, text=True, timeout=120
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done

    def on(self, cluster: str, command: Sequence[str]) -> list[str]:
        """`command` where /etc/slurm is that cluster's."""
        mount = ["unshare", "-m", "--propagation", "private", "bash", "-c", IN_MOUNT]
        return [*mount, str(self.folder / cluster / "etc"), *command]

    def jobs(self, *options: str, fields: str) -> list[dict[str, str]]:
        """What sacct tells of jobs on both clusters."""
        names = fields.split(",")
        done = self.login("sacct", "-X", "-n", "-P", "-M", "all", "-S", "now-1hour",
                          f"--format={fields}", *options)  # fmt: skip
        return [dict(zip(names, line.split("|"), strict=True)) for line in done.stdout.splitlines()]

    def queue(self, folder: Path) -> list[str]:
        """Ids of the jobs of one working directory that have not ended."""
        done = self.login("squeue", "-h", "-M", "all", "-O", "JobID:20,StdOut:400")
        lines = [line.split() for line in done.stdout.splitlines()]
        return [line[0] for line in lines if len(line) > 1 and line[1].startswith(f"{folder}/")]

    def wait(self, true: Callable[[], object], what: str, seconds: float = SECONDS):
        """Wait until `true()`, or say what did not come."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if result := true():
                return result
            dead = [name for name, daemon in self.daemons.items() if daemon.poll() is not None]
            if dead:
                raise RuntimeError(f"{dead} ended while waiting for {what}; see {self.folder}")
            time.sleep(0.2)
        raise TimeoutError(f"{what}: not within {seconds} s; see {self.folder}")

    def _configure(self, cluster: str, first_job: int) -> None:
        etc = self.folder / cluster / "etc"
        etc.mkdir(parents=True)
        (self.folder / cluster / "state").mkdir()
        names = self._names | {"CLUSTER": cluster, "FIRST_JOB": str(first_job)}
        names |= {"CTLD_PORT": str(next(self._ports)), "SLURMD_PORT": str(next(self._ports))}
        nodes = (ETC / f"{cluster}.conf").read_text()
        for line in [line for line in nodes.splitlines() if "@NODE_PORTS@" in line]:
            ports = ",".join(str(next(self._ports)) for _ in range(2 if "[" in line else 1))
            nodes = nodes.replace(line, line.replace("@NODE_PORTS@", f"[{ports}]"))
        gres = (ETC / "gres.conf").read_text().splitlines()
        here = tuple(f"NodeName={node} " for node in self.layout.nodes[cluster])
        own = [line for line in gres if not line.startswith("NodeName=") or line.startswith(here)]
        texts = {"cgroup.conf": (ETC / "cgroup.conf").read_text()}
        texts["job_submit.lua"] = (ETC / self.layout.submit).read_text()
        texts["slurm.conf"] = (ETC / "slurm.conf").read_text() + nodes
        texts["gres.conf"] = "\n".join(own) + "\n"
        texts["slurmdbd.conf"] = (ETC / "slurmdbd.conf").read_text()
        for name, text in texts.items():
            for key, value in names.items():
                text = text.replace(f"@{key}@", value)
            (etc / name).write_text(text)
            (etc / name).chmod(0o600)

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        run = {name: self.folder / f"munge{name}" for name in ("d.log", "d.seed", "d.pid")}
        self._daemon("munged", "munged", "-F", "--force", "--num-threads=4", f"--key-file={key}",
                     f"--socket={self.folder}/munge.socket", f"--log-file={run['d.log']}",
                     f"--seed-file={run['d.seed']}", f"--pid-file={run['d.pid']}")  # fmt: skip
        self.wait((self.folder / "munge.socket").exists, "munged")

    def _start_mariadb(self) -> None:
        data, sock = self.folder / "mysql", self.folder / "mysqld.sock"
        data.mkdir()
        subprocess.run(["mariadb-install-db", "--no-defaults", "--user=root", "--skip-test-db",
                        "--auth-root-authentication-method=normal", f"--datadir={data}"],
                       check=True, capture_output=True)  # fmt: skip
        self._daemon("mariadbd", "mariadbd", "--no-defaults", "--user=root", f"--datadir={data}",
                     f"--socket={sock}", "--bind-address=127.0.0.1", "--skip-log-bin",
                     f"--port={self._names['SQL_PORT']}", "--innodb-buffer-pool-size=64M",
                     "--innodb-lock-wait-timeout=900")  # fmt: skip
        rights = "; ".join(f"create user slurm@'{host}' identified by 'slurm'; "
                           f"grant all on slurm_acct_db.* to slurm@'{host}'"
                           for host in ("127.0.0.1", "localhost"))  # fmt: skip
        client = ["mariadb", "--no-defaults", "-S", str(sock), "-u", "root", "-e"]
        create = [*client, f"create database slurm_acct_db; {rights}"]
        self.wait(lambda: not subprocess.run(create, capture_output=True).returncode, "mariadbd")

    def _daemon(self, name: str, *command: str, cluster: str = "") -> None:
        log = (self.folder / f"{name}.out").open("ab")
        dying = ["setpriv", "--pdeathsig", "TERM", *self.on(cluster or self.login_cluster, command)]
        self.daemons[name] = subprocess.Popen(dying, stdin=subprocess.DEVNULL, stdout=log,
                                              stderr=log, start_new_session=True)  # fmt: skip
        log.close()


@contextmanager
def running(folder: Path, layout: Layout) -> Iterator[Rig]:
    """A rig that is up; the test is skipped where Slurm's daemons are not installed."""
    if why := missing():
        if os.environ.get("EPIC100_SLURM_TESTS") == "required":
            pytest.fail(f"the tests on Slurm are required here, but {why}")
        pytest.skip(f"no test on real Slurm: {why}; .ci/run names the packages")
    rig = Rig(folder, layout)
    try:
        rig.start()
        yield rig
    finally:
        rig.stop()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
