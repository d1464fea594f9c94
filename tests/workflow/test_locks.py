"""The locks: what they pin, for which platforms, and that their hashes are looked at."""

import hashlib
import itertools
import os
import re
import sys
import tomllib
import venv
import zipfile
from importlib.metadata import version
from pathlib import Path
from urllib.request import urlopen

import pytest
from mmengine.config import Config
from packaging.requirements import Requirement

from support.checkout import ROOT, call

pytestmark = pytest.mark.slow

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MAIN, DEV, NEW, OLD = (
    ROOT / f"requirements{kind}.lock" for kind in ("", "-dev", "-torch", "-torch-cuda12")
)
PLATFORMS = ("x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "aarch64-apple-darwin")


def entries(lock: Path) -> list[str]:
    """A pin with its marker and hashes each."""
    blocks = re.split(r"\n(?=\S)", lock.read_text().strip())
    return [block for block in blocks if not block.startswith("#")]


def pins(lock: Path) -> dict[str, Requirement]:
    found = [Requirement(entry.partition("\n")[0].rstrip(" \\")) for entry in entries(lock)]
    assert len({each.name for each in found}) == len(found)
    return {each.name: each for each in found}


def test_every_package_asked_for_is_locked_at_one_plain_version():
    extras = PROJECT["optional-dependencies"].values()
    for lock in (NEW, OLD):
        locked = pins(MAIN) | pins(DEV) | pins(lock)
        for asked in itertools.chain(PROJECT["dependencies"], *extras):
            asked = Requirement(asked)
            assert asked.name in locked, f"{asked.name} is not locked; run `make lock`"
            (pin,) = locked[asked.name].specifier
            assert pin.operator == "==" and asked.specifier.contains(pin.version), asked
            assert "+" not in pin.version  # serves CPU and CUDA


def test_every_entry_has_hashes():
    for lock in (MAIN, DEV, NEW, OLD):
        assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", each) for each in entries(lock))


def test_the_two_opencv_builds_that_need_a_display_library_stay_out():
    assert "opencv-python-headless" in pins(MAIN)
    assert not {"opencv-python", "opencv-contrib-python"} & set(pins(MAIN))


def test_torch_stands_with_the_libraries_of_its_cuda_build():
    for lock, cudnn in ((NEW, "nvidia-cudnn-cu13"), (OLD, "nvidia-cudnn-cu12")):
        assert {"torch", "torchvision", cudnn} <= set(pins(lock))
        assert not set(pins(MAIN) | pins(DEV)) & set(pins(lock))


def test_a_run_needs_no_linter():
    both = set(pins(MAIN)) & set(pins(DEV))
    assert all(pins(MAIN)[name].marker for name in both), "of a run on another platform alone"
    assert {"pytest", "ruff", "mypy", "mkdocs"} <= set(pins(DEV))
    assert {"snakemake", "hatchling"} <= set(pins(MAIN))


def test_a_new_lock_means_a_new_conda_environment():
    digest = hashlib.sha256(MAIN.read_bytes() + NEW.read_bytes()).hexdigest()
    script = (ROOT / "envs/epic100.post-deploy.sh").read_text()
    assert f"# lock sha256: {digest}" in script, "run `make lock`"


def test_the_environment_in_use_holds_what_the_locks_pin():
    locks = [pins(MAIN), pins(DEV), pins(OLD if version("torch").startswith("2.7.") else NEW)]
    asked = [pin for lock in locks for pin in lock.values()]
    asked = [pin for pin in asked if not pin.marker or pin.marker.evaluate()]
    wrong = {
        pin.name: found
        for pin in asked
        if not re.match("nvidia-|cuda-|triton", pin.name)  # a CPU build of torch has none
        and not pin.specifier.contains(found := version(pin.name).partition("+")[0])
    }
    assert not wrong


def test_a_config_may_have_one_of_mmaction2s_as_its_base(tmp_path):
    """MMEngine 0.10.7 finds it through pkg_resources, which setuptools 82 no longer has."""
    (tmp_path / "mine.py").write_text('_base_ = "mmaction::_base_/models/x3d.py"\n')
    assert Config.fromfile(tmp_path / "mine.py").model.backbone.type == "X3D"


@pytest.fixture(scope="module")
def index():
    """Skips where PyPI cannot be reached."""
    try:
        with urlopen("https://pypi.org/simple/tqdm/", timeout=20):
            pass
    except OSError as error:
        pytest.skip(f"wheels are looked up on PyPI, which cannot be reached: {error}")


@pytest.mark.weekly
@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_every_platform_has_wheels_of_what_is_locked(index, platform, python, tmp_path):
    command = [Path(sys.executable).with_name("uv"), "pip", "install", "--dry-run", "--quiet"]
    command += ["--no-deps", "--require-hashes", "--only-binary", ":all:"]
    command += ["--no-binary", "connection-pool"]  # pure Python, published as source alone
    command += ["--python-platform", platform, "--python-version", python]
    command += ["--target", tmp_path, "--requirement", MAIN, "--requirement", NEW]
    command += ["--requirement", DEV]
    call(*command, env=os.environ | {"MACOSX_DEPLOYMENT_TARGET": "14.0"})


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """An interpreter in an environment with pip and nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=True)
    return folder / "bin/python"


def wheel(folder: Path, name: str, label: str = "") -> str:
    """Write a wheel that holds a version.py, as torch's does, and nothing else; its digest."""
    path = folder / f"{name}-0.1{label}-py3-none-any.whl"
    about = f"{name}-0.1{label}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/version.py", "cuda: Optional[str] = None\n")
        for part, text in (
            ("METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1{label}\n"),
            ("WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
            ("RECORD", ""),
        ):
            archive.writestr(f"{about}/{part}", text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def install_torch(python: Path, folder: Path, *digests: str, well: bool = True):
    lock = folder / "torch.lock"
    pinned = zip(("torch", "torchvision"), digests, strict=True)
    lock.write_text("".join(f"{name}==0.1 \\\n    --hash=sha256:{d}\n" for name, d in pinned))
    environment = os.environ | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}
    return call(python, "envs/install_torch.py", lock, well=well, env=environment)


def installed(python: Path) -> str:
    return call(python, "-m", "pip", "list", "--format=freeze").stdout


def test_a_torch_is_installed_with_a_hash_of_the_lock_or_as_a_build_of_ones_own(python, tmp_path):
    digests = [wheel(tmp_path, name) for name in ("torch", "torchvision")]
    done = install_torch(python, tmp_path, "0" * 64, digests[1], well=False)
    assert "is not in" in done.stderr, done.stderr
    assert "torch" not in installed(python)
    assert "not checked" not in install_torch(python, tmp_path, *digests).stdout
    assert "torch==0.1\n" in installed(python)
    own = wheel(tmp_path, "torch", "+cpu")
    done = install_torch(python, tmp_path, *digests)
    assert "torch-0.1+cpu-py3-none-any.whl: from a folder or index of your own" in done.stdout
    assert own in done.stdout and "torch==0.1+cpu\n" in installed(python)
