"""The patches of contrib/upstream, on a copy of the installed executor: both hangs are gone without
the wrappers, and the wrappers step back."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import snakemake_executor_plugin_slurm as plugin

from epic100.slurm import executor
from epic100.slurm.commands import BIN
from support.checkout import ROOT
from support.slurm_calls import Call

PATCHES = sorted((ROOT / "contrib/upstream").glob("*.patch"))
SCAN = ("results/scan/P01.tsv", "--retries", "0", "--no-hooks")


@pytest.fixture(scope="module")
def patched(tmp_path_factory):
    """The folder of the mended plugin, to come first on PYTHONPATH."""
    folder = tmp_path_factory.mktemp("patched")
    source = Path(plugin.__file__).parent
    shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    for patch in PATCHES:
        subprocess.run(["git", "apply", str(patch)], cwd=folder, check=True)
    return folder


def python_path(folder):
    return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


def test_each_patch_has_a_text_to_send():
    assert [patch.name[:4] for patch in PATCHES] == ["0001", "0002"]
    for patch in PATCHES:
        assert patch.with_suffix(".md").read_text().startswith("# fix: ")


def test_the_unit_tests_in_the_patches_pass_with_them_and_fail_without(patched, tmp_path):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    with_them = subprocess.run([*command, "tests"], cwd=patched, capture_output=True, text=True,
                               env=os.environ | python_path(patched))  # fmt: skip
    assert "2 passed" in with_them.stdout
    shutil.copytree(patched / "tests", tmp_path / "tests")
    without = subprocess.run([*command, "tests"], cwd=tmp_path, capture_output=True, text=True)
    assert "2 failed" in without.stdout


def test_the_hangs_are_seen_in_the_executor_and_not_seen_once_it_is_mended(patched):
    assert len(executor.hangs()) == 2
    ask = "from epic100.slurm import executor; print(executor.hangs())"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True,
                          env=os.environ | python_path(patched), check=True)  # fmt: skip
    assert done.stdout.strip() == "[]"


def test_a_version_that_was_not_tested_is_reported(monkeypatch):
    assert executor.unknown_version() == ""
    monkeypatch.setattr(executor, "KNOWN", ("2.7.1",))
    assert "2.8.0 is installed, and this workflow was tested with 2.7.1" in (
        executor.unknown_version()
    )


def test_with_the_patch_a_job_cancelled_by_hand_ends_the_workflow(
    rig, new_archive, tmp_path, patched, held
):
    with Call(rig, new_archive(tmp_path), *SCAN, env=python_path(patched)) as call:
        (job,) = call.jobs()
        rig.login("scancel", "-M", "wice", job)
        assert call.end() != 0
        assert f"SLURM-job '{job}' failed, SLURM status is: 'CANCELLED'" in call.said()
    steps_back(rig, job)


def steps_back(rig, job):
    """The mended sacct gives the plain state; where the executor needs no mending, Slurm's own."""
    name = rig.jobs("-j", job, fields="JobName")[0]["JobName"]
    ask = (str(BIN / "sacct"), "-X", "--parsable2", "--noheader", "--format=JobIdRaw,State",
           "--clusters", "all", "--name", name)  # fmt: skip
    python = f"EPIC100_PYTHON={sys.executable}"
    assert rig.login("env", python, *ask).stdout.strip() == f"{job}|CANCELLED"
    untouched = rig.login("env", python, "EPIC100_EXECUTOR_MENDED=1", *ask).stdout.strip()
    assert untouched == f"{job}|CANCELLED by 0"


def test_with_the_patch_a_database_outage_is_survived(rig, new_archive, tmp_path, patched, held):
    attempts = ("--slurm-status-attempts", "1")
    with Call(rig, new_archive(tmp_path), *SCAN, *attempts, env=python_path(patched)) as call:
        call.jobs()
        rig.end("slurmdbd")
        try:
            held()
            rig.wait(lambda: (call.folder / "results/scan/P01.tsv").exists(), "the scan")
            call.until("Unable to query the status of 1 active jobs")
        finally:
            rig.start_database()
        assert call.end(120) == 0, call.said()
