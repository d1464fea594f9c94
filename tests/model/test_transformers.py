"""Hugging Face's transformers in the environment: MMAction2 alone cannot be imported beside it."""

import os
import re
from pathlib import Path

import pytest
import yaml

from epic100.features.file import read_feature_table
from support.checkout import ROOT, ended, python

pytestmark = pytest.mark.weekly

LOCK = Path(__file__).with_name("requirements-hf.lock")


def install(folder: Path, *, timm: bool) -> Path:
    """Install what the lock adds to the environment, into `folder`; skip without an index."""
    text = LOCK.read_text()
    if not timm:
        text = re.sub(r"^timm==.*\n(    .*\n)+", "", text, flags=re.MULTILINE)
    folder.mkdir()
    lock = folder / "packages.lock"
    lock.write_text(text)
    command = ["-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--only-binary", ":all:", "--retries", "1", "--timeout", "20"]
    command += ["--target", folder, "--requirement", lock]
    done = python(*command, well=None)
    if "(from versions: none)" in done.stderr:
        pytest.skip(
            f"transformers is installed from an index, and none is reached: {done.stderr[-300:]}"
        )
    assert ended(done) and (folder / "timm").exists() == timm
    return folder


@pytest.mark.parametrize("timm", [False, True], ids=["without_timm", "with_timm"])
def test_beside_transformers_the_demos_model_trains_and_features_are_made(
    timm, new_archive, tmp_path
):
    packages = install(tmp_path / "packages", timm=timm)
    folder = new_archive(tmp_path / "archive")
    path = os.pathsep.join([str(packages), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])

    def beside(*words):
        """In a process that starts with these packages."""
        return python(*words, env=os.environ | {"PYTHONPATH": path}).stdout

    def features(encoder, *targets, **changes):
        """Have Snakemake make them with this encoder; the channels of the participant's videos."""
        train = {"config": "config/x3d_demo.py", "from_scratch": True, "epochs": 1}
        over = {"train": train, "features": {"encoder": encoder, "stride": 2.0}, **changes}
        config = yaml.safe_load((folder / "config.yaml").read_text()) | over
        (folder / "over.yaml").write_text(yaml.safe_dump(config))
        beside("-m", "snakemake", *targets, "--cores", "2", "--directory", folder,
               "--configfile", folder / "over.yaml")  # fmt: skip
        rows = read_feature_table(folder / targets[-1])
        assert all(row.valid == row.steps == 4 for row in rows) and len(rows) == 2
        return {row.channels for row in rows}

    satisfied = "from mmaction.utils.dependency import WITH_MULTIMODAL; print(WITH_MULTIMODAL)"
    assert beside("-c", satisfied) == "True\n"  # so MMAction2 alone would import VindLU
    assert features("model", "results/model.pth", "results/features/P02.tsv") == {192}
    encoder = "support.video_mae:TinyVideoMae"
    assert features(encoder, "results/runs/mae/features/P02.tsv", run="mae") == {24}
