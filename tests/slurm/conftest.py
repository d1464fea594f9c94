"""Fixtures of the tests on Slurm: an empty queue for each test, and runs which tests share."""

import shutil

import psutil
import pytest

from support.archive import configure, stop_decoder
from support.slurm_calls import Call, put_before

# The rig's GPUs are stand-ins: the nodes grant them, and torch sees none.
SMALL = {"config": "config/x3d_demo.py", "epochs": 1, "device": "cpu"}


@pytest.fixture(autouse=True)
def empty_queue(request):
    """Cancel the jobs that an earlier test has left, and start daemons that it has ended."""
    if "rig" in request.fixturenames:
        request.getfixturevalue("rig").clear()


@pytest.fixture(scope="session")
def runs(rig, new_archive, once):
    """The results of two calls side by side, which are made once for all workers.

    `whole` is the whole DAG over both clusters; its training gets the signal that Slurm sends
    before the wall time. `scan` is a scan that runs into its wall time. Each has its `folder`, its
    `screen`, all that it `said` on the screen and in the log, and its `jobs`, as sacct lists them.
    """

    def make(folder):
        rig.clear()
        whole, scan = new_archive(folder / "whole"), new_archive(folder / "scan")
        # The training must still run when the signal comes after its first checkpoint.
        configure(whole, train=SMALL | {"epochs": 24}, predict={"device": "cpu"})
        # The library must not end the halted decoder before Slurm ends the job.
        configure(scan, scan={"stall_seconds": 600, "min_seconds": 600})
        # This stands for a site that passes no environment on to jobs.
        bare = 'exec /usr/bin/sbatch "${@/--export=ALL/--export=NONE}"'
        env = {"EPIC100_SITE": "genius", "SHORTER": "screen.LINE_SECONDS=20"}
        env |= put_before("sbatch", bare, whole / "bin")
        # The first attempt gets one minute, and the second one five.
        minutes = ("--set-resources", "scan:runtime=4 * attempt - 3")
        with Call(rig, scan, "results/scan/P02.tsv", *minutes) as short:
            # On a busy machine, a decoder that lives shortly would be missed. So this comes first.
            stop_decoder(scan / "archive/P02/P02_102.MP4")
            # Each job first adds its environment variables to this file.
            list_variables = ("--precommand", f"env >> {whole}/env.txt")
            with Call(rig, whole, "all", *list_variables, env=env) as call:
                made = whole / "results/work_dirs"
                rig.wait(lambda: list(made.glob("*/*.pth")), "a checkpoint", 600)
                # The signal goes to every process of the job's step, as with `--signal=USR1@300`.
                rig.login("scancel", "-M", "genius", "-p", "gpu_v100", "--signal=USR1")
                call.ends()
            short.ends()
        # A halted process does not end with its job, so it is killed here.
        for process in psutil.process_iter(["cwd"]):
            if process.info["cwd"] == str(scan):
                process.kill()
        return {
            name: {
                "folder": each.folder,
                "screen": each.screen(),
                "said": each.said(),
                "jobs": each.jobs(),
            }
            for name, each in (("whole", call), ("scan", short))
        }

    return once("slurm_runs", make)


@pytest.fixture
def again(runs, tmp_path):
    """A function that copies the folder of the complete DAG, with changed settings of the training.

    The copy has no result of the training, so only this and what follows runs again.
    """
    ignored = shutil.ignore_patterns(".snakemake", "work_dirs", "model.pth")

    def copy(**changes):
        shutil.copytree(runs["whole"]["folder"], tmp_path, ignore=ignored, dirs_exist_ok=True)
        configure(tmp_path, train=SMALL | changes)
        return tmp_path

    return copy
