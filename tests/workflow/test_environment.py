"""How an environment is made, files for hosts, and a Snakemake without the package."""

import hashlib
import itertools
import os
import re
import shutil
import sys
import sysconfig
import tomllib
import venv
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.checkout import ROOT, call, said, without_the_clone
from support.slurm_calls import put_before
from tools.lowest_versions import lowest_versions

BIN = Path(sys.executable).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MAIN, DEV, NEW, OLD, HF = (
    ROOT / f"requirements{kind}.lock" for kind in ("", "-dev", "-torch", "-torch-cuda12", "-hf")
)


def entries(lock: Path) -> list[str]:
    """The pins of a lock file, each with its marker and its hashes."""
    blocks = re.split(r"\n(?=\S)", lock.read_text().strip())
    return [block for block in blocks if not block.startswith("#")]


def pins(lock: Path) -> dict[str, Requirement]:
    """The packages of a lock file by name, each once."""
    found = [Requirement(entry.partition("\n")[0].rstrip(" \\")) for entry in entries(lock)]
    assert len({each.name for each in found}) == len(found)
    return {each.name: each for each in found}


def test_each_package_is_locked_at_one_version():
    extras = PROJECT["optional-dependencies"].values()
    for lock in (NEW, OLD):
        locked = pins(MAIN) | pins(DEV) | pins(HF) | pins(lock)
        for requirement in map(Requirement, itertools.chain(PROJECT["dependencies"], *extras)):
            name = requirement.name
            assert name in locked, f"{name} is not locked; run `make lock`"
            (pin,) = locked[name].specifier
            assert pin.operator == "==" and requirement.specifier.contains(pin.version), name
            # One version serves CPU and CUDA.
            assert "+" not in pin.version


def test_snakefile_and_pyproject_ask_one_lowest_snakemake():
    lowest = dict(pin.split("==") for pin in lowest_versions())
    assert f'min_version("{lowest["snakemake"]}")' in (ROOT / "Snakefile").read_text()


def test_each_lock_has_hashes_and_own_packages():
    for lock in (MAIN, DEV, NEW, OLD, HF):
        assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", each) for each in entries(lock))
    main, dev = pins(MAIN), pins(DEV)
    # A package of both is needed for a run on some platforms only, which its marker names.
    assert all(main[name].marker for name in main.keys() & dev.keys())
    # These two need a library of the display.
    assert not {"opencv-python", "opencv-contrib-python"} & main.keys()
    for lock, cudnn in ((NEW, "nvidia-cudnn-cu13"), (OLD, "nvidia-cudnn-cu12")):
        assert {"torch", "torchvision", cudnn} <= pins(lock).keys()
        assert not (main.keys() | dev.keys()) & pins(lock).keys()


def test_a_new_lock_means_a_new_conda_environment():
    digest = hashlib.sha256(MAIN.read_bytes() + NEW.read_bytes()).hexdigest()
    script = (ROOT / "envs/epic100.post-deploy.sh").read_text()
    assert f"# lock sha256: {digest}" in script, "run `make lock`"


def test_a_config_may_build_on_mmaction2_s(tmp_path):
    """MMEngine 0.10.7 finds it through pkg_resources, which setuptools 82 no longer has."""
    (tmp_path / "mine.py").write_text('_base_ = "mmaction::_base_/models/x3d.py"\n')
    assert Config.fromfile(tmp_path / "mine.py").model.backbone.type == "X3D"


def wheel(folder: Path, name: str, label: str = "") -> str:
    """Write a wheel that holds a version.py, as torch's does, and nothing else; its digest."""
    path = folder / f"{name}-0.1{label}-py3-none-any.whl"
    info = f"{name}-0.1{label}.dist-info"
    texts = {
        f"{name}/version.py": "cuda: Optional[str] = None\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1{label}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in texts.items():
            archive.writestr(file, text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_torch_is_locked_or_one_s_own_build(tmp_path):
    venv.create(tmp_path / "bare", with_pip=True)
    python, lock = tmp_path / "bare/bin/python", tmp_path / "torch.lock"
    environment = os.environ | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}

    def install(*digests, well=True):
        """The output of the script, and the builds of torch that are installed after it."""
        pinned = zip(("torch", "torchvision"), digests, strict=True)
        lock.write_text("".join(f"{name}==0.1 \\\n    --hash=sha256:{d}\n" for name, d in pinned))
        done = call(python, "envs/install_torch.py", lock, well=well, env=environment)
        installed = (tmp_path / "bare").glob("lib/*/site-packages/torch-*")
        return said(done), [path.name.removesuffix(".dist-info") for path in installed]

    digests = [wheel(tmp_path, name) for name in ("torch", "torchvision")]
    # The lock has the digest of another torch.
    printed, builds = install("0" * 64, digests[1], well=False)
    assert "is not in" in printed and builds == []
    printed, builds = install(*digests)
    assert "not checked" not in printed and builds == ["torch-0.1"]
    # A build of the user's own is in the folder, and the lock does not have it.
    own = wheel(tmp_path, "torch", "+cpu")
    printed, builds = install(*digests)
    assert "torch-0.1+cpu-py3-none-any.whl: from a folder or index of your own" in printed
    assert own in printed and builds == ["torch-0.1+cpu"]


def test_an_old_python_is_one_clear_sentence(tmp_path):
    put_before("old", "[ \"$1\" = -V ] && echo 'Python 3.9.2' && exit 0\nexit 1", tmp_path)
    words = ("make", "-s", "install", f"PYTHON={tmp_path}/old", f"VENV={tmp_path}/venv")
    assert [line for line in call(*words, well=False).stdout.splitlines() if line] == [
        f"Python 3.11 or newer is needed, {tmp_path}/old is Python 3.9.2: "
        "run make PYTHON=python3.11"
    ]


def test_a_path_with_space_links_its_environment(tmp_path):
    folder = tmp_path / "with space"
    folder.mkdir()
    for name in ("Makefile", "envs", "pyproject.toml", *(p.name for p in ROOT.glob("*.lock"))):
        (folder / name).symlink_to(ROOT / name)
    done = call("make", "-n", "demo", cwd=folder, env=os.environ | {"HOME": str(tmp_path)})
    venv = re.search(rf"ln -sfn ({tmp_path}/.cache/epic100/venv-\d+) .venv", done.stdout)[1]
    assert f"{venv}/bin/snakemake all" in done.stdout


@pytest.mark.parametrize(
    "seen, generation",
    [
        # The output is the compute capability of a GPU and the version of the driver. CUDA 13 does
        # not run with a driver below 580.
        ("8.0, 550.54.15", "12"),
        ("8.0, 580.65.06", "13"),
        # CUDA 13 has no kernels for a V100.
        ("7.0, 580.65.06", "12"),
        # A P100 beside an H100 needs CUDA 12, too.
        ("9.0, 580.65.06\n6.0, 580.65.06", "12"),
        ("", "13"),
        ("NVIDIA-SMI has failed because it could not communicate with the driver.", "13"),
    ],
)
def test_driver_and_oldest_gpu_choose_cuda(tmp_path, seen, generation):
    environment = os.environ | put_before("nvidia-smi", f"cat <<'END'\n{seen}\nEND", tmp_path)
    assert call("sh", "envs/cuda.sh", env=environment).stdout.split() == [generation]


def test_cuda_stays_until_another_is_asked_for(tmp_path):
    def planned(*arguments: str) -> list[str]:
        done = call("make", "-n", "install", f"VENV={tmp_path}", *arguments)
        return re.findall(r"envs/install.sh \S+ ?(\d*)$", done.stdout, re.MULTILINE)

    assert planned() == [""] and planned("CUDA=12") == ["12"]
    (tmp_path / "installed").write_text("12\n")
    assert planned() == planned("CUDA=12") == []
    assert planned("CUDA=13") == ["13"]


def test_git_ignores_results_but_no_source(tmp_path):
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
def test_a_host_s_file_fits_its_schema(schema, name):
    call(BIN / "check-jsonschema", "--builtin-schema", f"vendor.{schema}", name)


def test_the_version_is_in_one_place():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert "version" not in yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)[0] == version


@pytest.mark.weekly
def test_the_site_builds_with_every_part(tmp_path):
    quiet = {"NO_MKDOCS_2_WARNING": "1", "DISABLE_MKDOCS_2_WARNING": "true"}
    call(
        BIN / "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site", env=os.environ | quiet
    )
    library = (tmp_path / "site/docs/api/index.html").read_text(encoding="utf-8")
    for part in (ROOT / "workflow/epic100").glob("*/__init__.py"):
        assert f'id="epic100.{part.parent.name}"' in library, part
    front = (tmp_path / "site/index.html").read_text(encoding="utf-8")
    assert "films a mini kitchen" in front and "fonts.googleapis.com" not in front


def bare_environment(folder: Path, *names: str) -> Path:
    """Make an environment of the programs `names` and their requirements; return its `bin`.

    Packages are links to the packages of the environment in use.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    packages: dict[str, Distribution] = {}
    for name in names:
        add_requirements(name, packages)
        program = folder / "bin" / name
        program.write_text(f'#!/bin/sh\nexec "{folder}/bin/python" -m {name} "$@"\n')
        program.chmod(0o755)
    site_packages = sysconfig.get_path("purelib", "venv", {"base": str(folder)})
    for package in packages.values():
        for top in {file.parts[0] for file in package.files or () if file.parts[0] != ".."}:
            link = Path(site_packages, top)
            # Packages of one namespace have a folder in common, which is linked once.
            if not os.path.lexists(link) and top != "__pycache__":
                link.symlink_to(package.locate_file(top))
    return folder / "bin"


def add_requirements(name: str, packages: dict[str, Distribution]) -> None:
    """Add a package and all that it requires to `packages`, by name."""
    name = canonicalize_name(name)
    if name not in packages:
        packages[name] = distribution(name)
        for text in packages[name].requires or ():
            requirement = Requirement(text)
            # Without an extra, requirements of extras are left out.
            if not requirement.marker or requirement.marker.evaluate({"extra": ""}):
                add_requirements(requirement.name, packages)


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
