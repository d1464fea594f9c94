"""Each test on Slurm begins with an empty queue and with every daemon and node at work; several
look at one run of the whole DAG."""

import shutil

import psutil
import pytest

from support.archive import configure, stop_decoder
from support.slurm_calls import Call, put_before

# The rig's GPUs are stand-ins: the nodes grant them, and torch sees none.
SMALL = {"config": "config/x3d_demo.py", "epochs": 1, "device": "cpu"}
# Slurm counts in minutes. The first job gets one, and its retry five.
SHORT = ("--set-resources", "scan:runtime=4 * attempt - 3")


@pytest.fixture(autouse=True)
def empty_queue(request):
    if "rig" in request.fixturenames:
        request.getfixturevalue("rig").clear()


@pytest.fixture(scope="session")
def runs(rig, new_archive, once):
    """The results of two calls side by side, which are made once for all workers.

    `whole` is the whole DAG over both clusters; Slurm warns its training of the wall time. `scan`
    is a scan that runs into its wall time. Each has its `folder`, its `screen`, all that it `said`,
    and its `jobs` as sacct tells them.
    """

    def make(folder):
        rig.clear()
        whole, scan = new_archive(folder / "whole"), new_archive(folder / "scan")
        configure(whole, train=SMALL | {"epochs": 24}, predict={"device": "cpu"})
        configure(scan, scan={"stall_seconds": 600, "min_seconds": 600})
        # This stands for a site that passes no environment on to jobs.
        bare = 'exec /usr/bin/sbatch "${@/--export=ALL/--export=NONE}"'
        env = {"EPIC100_SITE": "genius", "SHORTER": "status.LINE_SECONDS=20"}
        env |= put_before("sbatch", bare, whole / "bin")
        with Call(rig, scan, "results/scan/P02.tsv", *SHORT) as short:
            # A busy machine would miss the decoder's short life.
            stop_decoder(scan / "archive/P02/P02_102.MP4")
            words = ("--precommand", f"env >> {whole}/env.txt")
            with Call(rig, whole, "all", *words, env=env) as call:
                made = whole / "results/work_dirs"
                rig.wait(lambda: list(made.glob("*/*/*.pth")), "a checkpoint", 600)
                # The signal goes to every process of the job's step, as with `--signal=USR1@300`.
                rig.login("scancel", "-M", "genius", "-p", "gpu_v100", "--signal=USR1")
                call.ends()
            short.ends()
        # Slurm has lost sight of the job that was halted, so its processes are ended here.
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
    """A function that copies the folder of the whole DAG, and sets its training otherwise.

    The copy has all results before the training, so only this runs again.
    """
    nothing = shutil.ignore_patterns(".snakemake", "work_dirs", "model.pth")

    def copy(**changes):
        shutil.copytree(runs["whole"]["folder"], tmp_path, ignore=nothing, dirs_exist_ok=True)
        configure(tmp_path, train=SMALL | changes)
        return tmp_path

    return copy
