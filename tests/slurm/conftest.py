"""Each test on Slurm begins with an empty queue and with every daemon and node at work; several
look at one run of the whole DAG."""

import shutil
import subprocess
from pathlib import Path

import psutil
import pytest
import snakemake_executor_plugin_slurm as plugin

from support.archive import configure, stop_decoder
from support.checkout import ROOT
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
def patched(tmp_path_factory):
    """The folder of the executor with the patches of contrib/upstream, to lead PYTHONPATH."""
    folder = tmp_path_factory.mktemp("patched")
    source = Path(plugin.__file__).parent
    shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    for patch in sorted((ROOT / "contrib/upstream").glob("*.patch")):
        subprocess.run(["git", "apply", str(patch)], cwd=folder, check=True)
    return folder


def facts(call):
    return {"folder": call.folder, "screen": call.screen(), "said": call.said(),
            "jobs": call.jobs()}  # fmt: skip


@pytest.fixture(scope="session")
def runs(rig, new_archive, once):
    """Two calls side by side, made once for all workers: the whole DAG over both clusters, whose
    training Slurm warns of its wall time, and a scan that runs into it. Of each its `folder`, its
    `screen`, all that it `said`, and its `jobs` as sacct tells them."""

    def make(folder):
        rig.clear()
        whole, scan = new_archive(folder / "whole"), new_archive(folder / "scan")
        configure(whole, train=SMALL | {"epochs": 24}, predict={"device": "cpu"})
        configure(scan, scan={"stall_seconds": 600, "min_seconds": 600})
        # This stands for a site that passes no environment on to jobs.
        bare = 'exec /usr/bin/sbatch "${@/--export=ALL/--export=NONE}"'
        env = {"EPIC100_SITE": "genius", "SHORTER": "status.LINE_SECONDS=20"}
        env |= put_before("sbatch", bare, whole / "bin")
        with (
            Call(rig, scan, "results/scan/P02.tsv", *SHORT) as short,
            Call(rig, whole, "all", "--precommand", f"env >> {whole}/env.txt", env=env) as call,
        ):
            stop_decoder(scan / "archive/P02/P02_102.MP4")
            rig.wait(lambda: list(whole.glob("results/work_dirs/*/*/*.pth")), "a checkpoint", 600)
            # The signal goes to every process of the job's step, as with `--signal=USR1@300`.
            rig.login("scancel", "-M", "genius", "-p", "gpu_v100", "--signal=USR1")
            call.ends()
            short.ends()
        # Slurm has lost sight of the job that was halted, so its processes are ended here.
        for process in psutil.process_iter(["cwd"]):
            if process.info["cwd"] == str(scan):
                process.kill()
        return {"whole": facts(call), "scan": facts(short)}

    return once("slurm_runs", make)


@pytest.fixture
def again(runs, tmp_path):
    """Copies the whole DAG's folder, in which the training, set otherwise, is to be done."""
    nothing = shutil.ignore_patterns(".snakemake", "work_dirs", "model.pth")

    def copy(**changes):
        shutil.copytree(runs["whole"]["folder"], tmp_path, ignore=nothing, dirs_exist_ok=True)
        configure(tmp_path, train=SMALL | changes)
        return tmp_path

    return copy
