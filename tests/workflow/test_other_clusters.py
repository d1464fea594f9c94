"""Clusters without Slurm: the profile of docs/other-clusters.md for PBS, and the library's part."""

import os
import re

import pytest

from epic100.base import scheduler
from epic100.base.scheduler import ClusterJob, Scheduler
from support.checkout import ROOT, python
from support.slurm_calls import put_before

PAGE = (ROOT / "docs/other-clusters.md").read_text()
# These programs stand for PBS's: `qsub` starts the script of a job in the background, and writes
# its exit status to a file; `qstat` reads it.
QSUB = """script="${@: -1}"; number=$(ls {jobs} | wc -l); echo "$@" > {jobs}/$number
(bash "$script" > {jobs}/$number.out 2>&1; echo $? > {ends}/$number) </dev/null >/dev/null 2>&1 &
echo "$number.pbs" """
QSTAT = """number="${3%.pbs}"; echo "Job Id: $3"
if [ -e {ends}/$number ]
then echo "    job_state = F"; echo "    Exit_status = $(cat {ends}/$number)"
else echo "    job_state = R"; fi"""


@pytest.mark.slow
def test_the_profile_of_the_page_runs_jobs_with_the_threads_of_their_rules(archive, tmp_path):
    blocks = re.findall(r"```(yaml|sh)\n(.*?)```", PAGE, re.DOTALL)
    places = {name: tmp_path / name for name in ("jobs", "ends", "bin", "pbs")}
    for place in places.values():
        place.mkdir()
    (tmp_path / "pbs/config.yaml").write_text(
        next(text for kind, text in blocks if kind == "yaml").replace("pbs/", f"{tmp_path}/pbs/")
    )
    (tmp_path / "pbs/status.sh").write_text(blocks[-1][1])
    (tmp_path / "pbs/status.sh").chmod(0o755)
    for name, script in (("qsub", QSUB), ("qstat", QSTAT)):
        for key, place in places.items():
            script = script.replace(f"{{{key}}}", str(place))
        env = put_before(name, script, tmp_path / "bin")
    quick = ("--seconds-between-status-checks", "1", "--latency-wait", "5")
    python(
        "-m",
        "snakemake",
        "results/scan/P02.tsv",
        "--profile",
        str(tmp_path / "pbs"),
        *quick,
        "--directory",
        archive,
        "--configfile",
        archive / "config.yaml",
        env=os.environ | env,
    )
    # Each job has a file with its number as name, which has the options of qsub.
    (options,) = [path.read_text() for path in places["jobs"].iterdir() if not path.suffix]
    assert "-N scan " in options and "select=1:ncpus=4:mem=" in options and ":ngpus=0 " in options
    # The walltime is in seconds, and the scan asks for ten minutes.
    assert "-l walltime=600 " in options
    assert (archive / "results/scan/P02.tsv").exists()


def test_without_a_scheduler_there_are_no_jobs_and_no_grant():
    """That there are no nodes, either, is tested in tests/training/test_plan.py."""
    no_cluster = Scheduler()
    # This does nothing, and raises nothing.
    no_cluster.cancel([ClusterJob("scan", "7", "a/b", "R", pending=False, elapsed="0", user="me")])
    assert no_cluster.jobs() == [] and no_cluster.granted({}) == scheduler.Grant()


def test_a_job_s_scheduler_is_recognized_by_its_variables():
    assert set(scheduler.known_schedulers()) == {"none", "slurm"}
    slurm = scheduler.here({"SLURM_JOB_ID": "7", "SLURM_CLUSTER_NAME": "wice"})
    # A job is `id@cluster`, and these variables do not name the cluster.
    assert slurm.granted({"SLURM_JOB_ID": "7"}).job == "7@" and slurm.name == "slurm"
    assert scheduler.here({}).name == "none" == scheduler.in_charge().name


def test_only_the_folder_slurm_names_slurm():
    named = re.compile(r"slurm|sbatch|squeue|sacct|srun", re.IGNORECASE)
    files = (ROOT / "workflow/epic100").rglob("*.py")
    outside = [path for path in files if path.parent.name != "slurm"]
    assert [path for path in outside if named.search(path.read_text())] == []
