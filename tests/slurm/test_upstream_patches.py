"""The patches of contrib/upstream: what they say, and their own tests.

tests/slurm/test_hangs.py shows on real Slurm that the first two are gone with them.
"""

import os
import shutil
import subprocess
import sys

import snakemake_executor_plugin_slurm as plugin

from epic100.slurm import executor
from support.checkout import ROOT

PATCHES = sorted((ROOT / "contrib/upstream").glob("*.patch"))


def python(*words, cwd, path):
    return subprocess.run([sys.executable, *words], cwd=cwd, capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": os.fspath(path)}).stdout  # fmt: skip


def test_each_patch_has_a_text_to_send():
    assert [patch.name[:4] for patch in PATCHES] == ["0001", "0002", "0003"]
    for patch in PATCHES:
        assert patch.with_suffix(".md").read_text().startswith("# fix: ")


def test_the_unit_tests_in_the_patches_pass_with_them_and_fail_without(patched, tmp_path):
    command = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")
    assert "3 passed" in python(*command, cwd=patched, path=patched)
    shutil.copytree(patched / "tests", tmp_path / "tests")
    assert "3 failed" in python(*command, cwd=tmp_path, path="")


def test_a_version_that_was_not_tested_is_reported(monkeypatch):
    shown = []
    monkeypatch.setattr(executor, "KNOWN", ("2.7.1",))
    for name in ("query_job_status", "validate_account", "subprocess"):
        monkeypatch.setattr(plugin, name, getattr(plugin, name))
    check = plugin.Executor.check_active_jobs
    monkeypatch.setattr(plugin.Executor, "check_active_jobs", check)
    executor.correct([], ROOT, shown.append)
    executor.active.clear()
    (line,) = shown
    assert "2.8.0 is installed, and this workflow was tested with 2.7.1" in line
