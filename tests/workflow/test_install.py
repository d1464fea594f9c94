"""The lock, the environments made from it, and the Makefile that installs it."""

import hashlib
import re
import subprocess
import tomllib

import pytest

from support.checkout import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_every_package_asked_for_is_locked_at_one_plain_version():
    lock = pins("requirements.lock")
    for spec in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]:
        name, exact = re.match(r"([\w-]+)(?:==([\w.]+)$)?", spec).groups()
        assert name in lock, f"{name} is not locked; run `make lock`"
        assert exact in (None, lock[name])
    assert not [version for version in lock.values() if "+" in version]  # serves CPU and CUDA


def test_the_two_opencv_builds_that_need_a_display_library_stay_out():
    lock = pins("requirements.lock")
    assert "opencv-python-headless" in lock
    assert not {"opencv-python", "opencv-contrib-python"} & set(lock)


def test_cuda_libraries_stand_in_a_lock_of_their_own():
    assert "torch" in pins("requirements.lock")
    cuda = pins("requirements-cuda.lock")
    assert any(name.startswith("nvidia-") for name in cuda)
    assert not set(cuda) & set(pins("requirements.lock"))


def test_a_new_lock_means_a_new_conda_environment():
    digest = hashlib.sha256((ROOT / "requirements.lock").read_bytes()).hexdigest()
    script = (ROOT / "envs/epic100.post-deploy.sh").read_text()
    assert f"# lock sha256: {digest}" in script, "run `make lock`, or put the digest in by hand"


@pytest.fixture
def old_python(tmp_path):
    """An interpreter that is too old, as far as anyone can tell from outside."""
    path = tmp_path / "python3.9"
    path.write_text("#!/bin/sh\n[ \"$1\" = -V ] && echo 'Python 3.9.2' && exit 0\nexit 1\n")
    path.chmod(0o755)
    return path


def test_a_python_that_is_too_old_is_one_clear_sentence(tmp_path, old_python):
    command = ["make", "-s", "install", f"PYTHON={old_python}", f"VENV={tmp_path}/venv"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    said = [line for line in done.stdout.splitlines() if line]
    assert said == [
        f"Python 3.11 or newer is needed, {old_python} is Python 3.9.2: run make PYTHON=python3.11"
    ]


def test_make_alone_lists_the_targets():
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    for target in ("demo", "test", "install", "lock"):
        assert re.search(rf"^{target} ", done.stdout, re.MULTILINE)


def test_every_environment_is_made_by_the_one_script_from_the_one_lock():
    install = (ROOT / "envs/install.sh").read_text()
    assert "requirements.lock" in install and "--no-deps" in install
    for recipe in ("Makefile", "envs/epic100.post-deploy.sh", "envs/apptainer.def"):
        text = (ROOT / recipe).read_text()
        assert "envs/install.sh" in text, recipe
        assert not re.search(
            r"pip install|conda install", text.replace("pip install --quiet uv", "")
        )
    recipe = (ROOT / "envs/apptainer.def").read_text()
    copied = re.findall(r"^    (\S+) /opt/epic100/(\S+)$", recipe, re.MULTILINE)
    assert all(source == target and (ROOT / source).exists() for source, target in copied)
    needed = {"requirements.lock", "requirements-cuda.lock", "pyproject.toml", "envs", "workflow"}
    assert needed <= {source for source, _ in copied}


def test_the_environment_in_use_holds_what_the_lock_pins():
    from importlib.metadata import version

    wrong = {
        name: found
        for name, pinned in pins("requirements.lock").items()
        if (found := version(name)).partition("+")[0] != pinned
    }
    assert not wrong
