"""The Makefile and the scripts that make an environment from the locks."""

import os
import re

import pytest

from support.checkout import ROOT, call
from tools.side_by_side import COMMANDS, PYTEST

pytestmark = pytest.mark.slow


@pytest.fixture
def old_python(tmp_path):
    """An interpreter that is too old, as far as anyone can tell from outside."""
    path = tmp_path / "python3.9"
    path.write_text("#!/bin/sh\n[ \"$1\" = -V ] && echo 'Python 3.9.2' && exit 0\nexit 1\n")
    path.chmod(0o755)
    return path


def test_a_python_that_is_too_old_is_one_clear_sentence(tmp_path, old_python):
    done = call(
        "make", "-s", "install", f"PYTHON={old_python}", f"VENV={tmp_path}/venv", well=False
    )
    assert [line for line in done.stdout.splitlines() if line] == [
        f"Python 3.11 or newer is needed, {old_python} is Python 3.9.2: run make PYTHON=python3.11"
    ]


def test_make_alone_lists_the_targets():
    targets = re.findall(r"^(\w\S*) ", call("make").stdout, re.MULTILINE)
    assert {"demo", "test", "install", "lock"} <= set(targets)


def test_calls_side_by_side_run_the_linters_and_every_test(tmp_path):
    assert "tests/tools/side_by_side.py" in call("make", "-n", "test", f"VENV={tmp_path}").stdout
    assert COMMANDS["lint"][-1] == "lint"
    assert COMMANDS["slurm"] == [*PYTEST, "tests/slurm"]
    assert COMMANDS["tests"] == [*PYTEST, "--ignore", "tests/slurm"]


def test_in_a_path_with_a_space_the_environment_is_elsewhere_and_linked(tmp_path):
    folder = tmp_path / "with space"
    folder.mkdir()
    for name in ("Makefile", "envs", "pyproject.toml", *(p.name for p in ROOT.glob("*.lock"))):
        (folder / name).symlink_to(ROOT / name)
    done = call("make", "-n", "demo", cwd=folder, env=os.environ | {"HOME": str(tmp_path)})
    venv = re.search(rf"ln -sfn ({tmp_path}/.cache/epic100/venv-\d+) .venv", done.stdout)[1]
    assert f"{venv}/bin/snakemake all" in done.stdout


def test_every_environment_is_made_by_the_one_script_from_the_locks():
    install = (ROOT / "envs/install.sh").read_text()
    assert "requirements.lock" in install and "--no-deps" in install
    assert "--require-hashes" in install
    for recipe in ("Makefile", "envs/epic100.post-deploy.sh", "envs/apptainer.def"):
        text = (ROOT / recipe).read_text()
        assert "envs/install.sh" in text, recipe
        assert not re.search(r"pip install|conda install", text)
    recipe = (ROOT / "envs/apptainer.def").read_text()
    assert re.search(r"^From: python:\S+@sha256:[0-9a-f]{64}$", recipe, re.MULTILINE)
    copied = re.findall(r"^    (\S+) /opt/epic100/(\S+)$", recipe, re.MULTILINE)
    assert all(source == target and (ROOT / source).exists() for source, target in copied)
    needed = {path.name for path in ROOT.glob("requirements*.lock")} - {"requirements-dev.lock"}
    needed |= {"pyproject.toml", "envs", "workflow"}
    assert needed <= {source for source, _ in copied}


@pytest.mark.parametrize("seen, generation", [
    ("8.0, 550.54.15", "12"),  # an A100 under a driver that CUDA 13 does not run on
    ("8.0, 580.65.06", "13"),
    ("7.0, 580.65.06", "12"),  # a V100
    ("9.0, 580.65.06\n6.0, 580.65.06", "12"),  # a P100 beside an H100
    ("", "13"),
    ("NVIDIA-SMI has failed because it could not communicate with the driver.", "13"),
])  # fmt: skip
def test_the_gpus_that_are_seen_choose_the_torch(tmp_path, seen, generation):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{seen}\nEND\n")
    program.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert call("sh", "envs/cuda.sh", env=environment).stdout.split() == [generation]


def test_a_cuda_generation_is_kept_until_another_is_asked_for(tmp_path):
    def planned(*arguments: str) -> list[str]:
        done = call("make", "-n", "install", f"VENV={tmp_path}", *arguments)
        return re.findall(r"envs/install.sh \S+ ?(\d*)$", done.stdout, re.MULTILINE)

    assert planned() == [""] and planned("CUDA=12") == ["12"]
    (tmp_path / "installed").write_text("12\n")
    assert planned() == planned("CUDA=12") == []
    assert planned("CUDA=13") == ["13"]
