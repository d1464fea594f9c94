"""The patches of contrib/upstream for snakemake-executor-plugin-slurm, and the tests in them."""

import shutil
from pathlib import Path

import snakemake_executor_plugin_slurm as plugin

from support.checkout import ROOT, call, python


def test_the_unit_test_in_each_patch_passes_with_the_patch_and_fails_without(tmp_path):
    patches = sorted((ROOT / "contrib/upstream").glob("*.patch"))
    source = Path(plugin.__file__).parent
    patched = tmp_path / source.name
    shutil.copytree(source, patched, ignore=shutil.ignore_patterns("__pycache__"))
    for patch in patches:
        call("git", "apply", patch, cwd=tmp_path)
    command = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert f"{len(patches)} passed" in python(*command, cwd=tmp_path).stdout
    # Without the patched copy, Python imports the installed plugin.
    shutil.rmtree(patched)
    assert f"{len(patches)} failed" in python(*command, cwd=tmp_path, well=False).stdout
