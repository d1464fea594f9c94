"""What a host shows and runs: workflows, issue forms, hooks, the docs site, versions."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from support.checkout import ROOT

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
MAKEFILE = (ROOT / "Makefile").read_text()
QUIET = {"NO_MKDOCS_2_WARNING": "1", "DISABLE_MKDOCS_2_WARNING": "true"}


@pytest.mark.weekly
@pytest.mark.parametrize("schema, name", [
    ("github-workflows", ".github/workflows/ci.yml"),
    ("github-workflows", ".github/workflows/weekly.yml"),
    ("github-issue-forms", ".github/ISSUE_TEMPLATE/problem.yml"),
    ("github-issue-forms", ".github/ISSUE_TEMPLATE/idea.yml"),
    ("github-issue-config", ".github/ISSUE_TEMPLATE/config.yml"),
    ("dependabot", ".github/dependabot.yml"),
    ("citation-file-format", "CITATION.cff"),
])  # fmt: skip
def test_a_file_of_the_host_is_what_the_hosts_schema_says(schema, name):
    command = [BIN / "check-jsonschema", "--builtin-schema", f"vendor.{schema}", ROOT / name]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_hosts_ci_runs_targets_of_the_makefile_and_actions_of_known_commits():
    files = [yaml.safe_load(path.read_text()) for path in ROOT.glob(".github/workflows/*.yml")]
    jobs = [job for file in files for job in file["jobs"].values()]
    steps = [step for job in jobs for step in job["steps"]]
    for call in (step["run"] for step in steps if "run" in step):
        assert re.search(rf"^{call.removeprefix('make ')}:", MAKEFILE, re.MULTILINE), call
    assert all(re.search(r"@[0-9a-f]{40}$", step["uses"]) for step in steps if "uses" in step)
    matrices = [job["strategy"]["matrix"] for job in jobs if "strategy" in job]
    systems = {name for matrix in matrices for name in matrix["os"]}
    assert {name.split("-")[0] for name in systems} == {"ubuntu", "macos"}
    assert any(name.endswith("-arm") for name in systems)


def test_the_hooks_before_a_commit_are_the_linters_of_the_makefile():
    lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE).group(1)
    wanted = {line.strip().replace("$(BIN)", ".venv/bin") for line in lint.splitlines()}
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repo["repo"] == "local"  # with the versions of the lock
    assert {hook["entry"] for hook in repo["hooks"]} == wanted


def test_the_version_is_one():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    assert version in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.weekly
def test_the_docs_site_is_built_without_a_warning_and_shows_every_part_of_the_library(tmp_path):
    command = [BIN / "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | QUIET, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for part in (ROOT / "workflow/epic100").glob("*/__init__.py"):
        page = tmp_path / f"site/docs/api/{part.parent.name}/index.html"
        assert page.exists(), (
            f"{part.parent.name} needs a page in docs/api and a line in mkdocs.yml"
        )
        assert f'id="epic100.{part.parent.name}"' in page.read_text(encoding="utf-8"), part
    front = (tmp_path / "site/index.html").read_text(encoding="utf-8")
    assert "make demo" in front and "fonts.googleapis.com" not in front
