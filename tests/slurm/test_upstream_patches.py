"""The patches of contrib/upstream: what they say, and their own tests."""

import shutil
from pathlib import Path

import snakemake_executor_plugin_slurm as plugin

from support.checkout import ROOT, call, python

PATCHES = sorted((ROOT / "contrib/upstream").glob("*.patch"))


def test_the_unit_tests_in_the_patches_pass_with_them_and_fail_without(tmp_path):
    source = Path(plugin.__file__).parent
    shutil.copytree(source, tmp_path / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    for patch in PATCHES:
        assert patch.with_suffix(".md").read_text().startswith("# fix: ")
        call("git", "apply", patch, cwd=tmp_path)
    for ends in (f"{len(PATCHES)} passed", f"{len(PATCHES)} failed"):
        done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path, well=None)
        assert ends in done.stdout
        shutil.rmtree(tmp_path / source.name, ignore_errors=True)
