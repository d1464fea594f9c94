"""The patches of contrib/upstream: what they say, and their own tests.

tests/slurm/test_hangs.py shows on real Slurm that the first two are gone with them.
"""

import shutil
from pathlib import Path

import snakemake_executor_plugin_slurm as plugin

from epic100.slurm import executor
from support.checkout import ROOT, call, python

PATCHES = sorted((ROOT / "contrib/upstream").glob("*.patch"))


def test_the_unit_tests_in_the_patches_pass_with_them_and_fail_without(tmp_path):
    source = Path(plugin.__file__).parent
    shutil.copytree(source, tmp_path / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    for patch in PATCHES:
        assert patch.with_suffix(".md").read_text().startswith("# fix: ")
        call("git", "apply", patch, cwd=tmp_path)
    for ends in ("3 passed", "3 failed"):
        done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path, well=None)
        assert ends in done.stdout
        shutil.rmtree(tmp_path / source.name, ignore_errors=True)


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
