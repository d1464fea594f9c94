"""What Snakemake's users and its catalog expect of any workflow."""

import shutil
import subprocess
from pathlib import Path

import pytest

from support.bare_environment import bare_environment, without_the_clone
from support.checkout import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.weekly]


@pytest.fixture(scope="module")
def snakemake(tmp_path_factory) -> Path:
    """A Snakemake without this workflow's package and all that it needs."""
    programs = bare_environment(tmp_path_factory.mktemp("bare"), "snakemake")
    missing = ["epic100", "pandas", "torch", "av"]
    code = f"import importlib.util as u; print([n for n in {missing} if u.find_spec(n)])"
    done = subprocess.run([programs / "python", "-c", code], env=without_the_clone(),
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout == "[]\n"
    return programs / "snakemake"


def look(snakemake: Path, folder: Path, snakefile: str, *arguments: str):
    command = [snakemake, "all", "-n", "--snakefile", ROOT / snakefile, "--directory", folder,
               "--configfile", ROOT / "config/demo.yaml", *arguments]  # fmt: skip
    return subprocess.run(command, cwd=ROOT, env=without_the_clone(), capture_output=True,
                          text=True)  # fmt: skip


@pytest.mark.parametrize("snakefile", ["Snakefile", "workflow/Snakefile"])
def test_a_bare_snakemake_reads_the_rules(snakemake, tmp_path, snakefile):
    conda = ["--sdm", "conda"] if shutil.which("conda") else []  # it is called even by -n
    done = look(snakemake, tmp_path, snakefile, *conda)
    assert done.returncode == 0, done.stdout + done.stderr
    for rule in ("scan", "train", "export", "report"):
        assert f"\n{rule} " in done.stdout


def test_rules_that_come_without_the_package_say_so(snakemake, tmp_path):
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules/common.smk").write_text((ROOT / "rules/common.smk").read_text())
    (tmp_path / "Snakefile").write_text('include: "rules/common.smk"\n')
    done = subprocess.run([snakemake, "-n"], cwd=tmp_path, env=without_the_clone(),
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode != 0
    assert "the package epic100 is not installed beside Snakemake" in done.stdout + done.stderr
