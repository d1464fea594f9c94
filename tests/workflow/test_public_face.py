"""Files for hosts and for a Snakemake without the package: CI, hooks, docs, versions, rules."""

import os
import re
import shutil
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from support.checkout import ROOT, call, said
from support.environments import bare_environment, without_the_clone

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
MAKEFILE = (ROOT / "Makefile").read_text()
QUIET = {"NO_MKDOCS_2_WARNING": "1", "DISABLE_MKDOCS_2_WARNING": "true"}


def test_git_ignores_data_and_results_and_no_file_of_the_repository(tmp_path):
    call("git", "init", "-q", cwd=tmp_path)
    shutil.copyfile(ROOT / ".gitignore", tmp_path / ".gitignore")
    data = [
        "annotations/EPIC_100_train.csv",
        "videos/P01/P01_01.MP4",
        "results/model.pth",
        "weights/a.pth",
    ]
    ships = call("git", "ls-files").stdout.splitlines()
    done = call("git", "check-ignore", *data, *ships, cwd=tmp_path, well=None)
    assert done.stdout.splitlines() == data


@pytest.mark.weekly
@pytest.mark.parametrize(
    "schema, name",
    [
        ("github-workflows", ".github/workflows/ci.yml"),
        ("github-workflows", ".github/workflows/weekly.yml"),
        ("github-issue-forms", ".github/ISSUE_TEMPLATE/problem.yml"),
        ("github-issue-forms", ".github/ISSUE_TEMPLATE/idea.yml"),
        ("github-issue-forms", ".github/ISSUE_TEMPLATE/run.yml"),
        ("github-issue-config", ".github/ISSUE_TEMPLATE/config.yml"),
        ("dependabot", ".github/dependabot.yml"),
        ("citation-file-format", "CITATION.cff"),
    ],
    ids=["ci", "weekly", "problem", "idea", "run", "issues", "dependabot", "citation"],
)
def test_a_file_of_the_host_is_what_the_hosts_schema_says(schema, name):
    call(BIN / "check-jsonschema", "--builtin-schema", f"vendor.{schema}", name)


def test_the_ci_of_the_host_runs_targets_of_the_makefile_and_actions_of_pinned_commits():
    files = [yaml.safe_load(path.read_text()) for path in ROOT.glob(".github/workflows/*.yml")]
    jobs = [job for file in files for job in file["jobs"].values()]
    steps = [step for job in jobs for step in job["steps"]]
    lines = [step["run"] for step in steps if "run" in step]
    # Lines with sudo install packages of the host.
    for line in (line for line in lines if not line.startswith("sudo ")):
        assert re.search(rf"^{line.removeprefix('make ')}:", MAKEFILE, re.MULTILINE), line
    assert all(re.search(r"@[0-9a-f]{40}$", step["uses"]) for step in steps if "uses" in step)


def test_the_hooks_before_a_commit_are_the_linters_of_the_makefile():
    (lint,) = re.findall(r"^lint:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    wanted = {line.strip().replace("$(BIN)", ".venv/bin") for line in lint.splitlines()}
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    # A local hook runs the versions of the lock.
    assert repo["repo"] == "local"
    assert {hook["entry"] for hook in repo["hooks"]} == wanted


def test_the_version_is_in_one_place_and_first_in_the_changes():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert "version" not in yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)[0] == version


@pytest.mark.weekly
def test_the_docs_site_is_built_without_a_warning_and_shows_every_part_of_the_library(tmp_path):
    call(
        BIN / "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site", env=os.environ | QUIET
    )
    library = (tmp_path / "site/docs/api/index.html").read_text(encoding="utf-8")
    for part in (ROOT / "workflow/epic100").glob("*/__init__.py"):
        assert f'id="epic100.{part.parent.name}"' in library, part
    front = (tmp_path / "site/index.html").read_text(encoding="utf-8")
    assert "films a mini kitchen" in front and "fonts.googleapis.com" not in front


@pytest.fixture(scope="module")
def snakemake(tmp_path_factory) -> Path:
    """A Snakemake without this workflow's package and the packages that it needs."""
    programs = bare_environment(tmp_path_factory.mktemp("bare"), "snakemake")
    absent = ["epic100", "pandas", "torch", "av"]
    # The program lists those that it finds.
    code = f"import importlib.util as u; print([n for n in {absent} if u.find_spec(n)])"
    assert call(programs / "python", "-c", code, env=without_the_clone()).stdout == "[]\n"
    return programs / "snakemake"


# The catalog of Snakemake's workflows looks for the second path.
@pytest.mark.parametrize("snakefile", ["Snakefile", "workflow/Snakefile"])
def test_a_bare_snakemake_reads_the_rules(snakemake, tmp_path, snakefile):
    # Snakemake calls conda even with -n.
    conda = ["--sdm", "conda"] if shutil.which("conda") else []
    done = call(
        snakemake,
        "all",
        "-n",
        "--snakefile",
        snakefile,
        "--directory",
        tmp_path,
        "--configfile",
        "config/demo.yaml",
        *conda,
        env=without_the_clone(),
    )
    for rule in ("scan", "train", "export", "report"):
        assert f"\n{rule} " in done.stdout


def test_rules_that_come_without_the_package_say_so(snakemake, tmp_path):
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules/common.smk").write_text((ROOT / "rules/common.smk").read_text())
    (tmp_path / "Snakefile").write_text('include: "rules/common.smk"\n')
    done = call(snakemake, "-n", cwd=tmp_path, env=without_the_clone(), well=False)
    assert "the package epic100 is not installed next to Snakemake" in said(done)
