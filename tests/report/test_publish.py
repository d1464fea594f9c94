"""What a lab gives away of a run: the published folder, and the report."""

import getpass
import json
import re
import shutil
import socket
import subprocess

import pytest
import torch
from safetensors.torch import load_file

from epic100.base.errors import EpicError
from epic100.cli.program import main
from epic100.model.model_file import digest, load_model, save_model
from epic100.report.model_card import write_model_card
from epic100.report.publish import publish
from support.models import save_random_model


def test_a_published_model_is_whole_and_every_program_reads_its_weights(demo, tmp_path):
    assert main(["publish", f"{demo}/results/model.pth", "--out", f"{tmp_path}/out"]) == 0
    subprocess.run(
        ["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path / "out", check=True
    )
    names = {path.name for path in (tmp_path / "out").iterdir()} - {"SHA256SUMS"}
    assert names == {"model.pth", "model.safetensors", "config.json", "README.md", "metafile.yml",
                     "metrics.json", "dropped.tsv", "LICENSES.txt"}  # fmt: skip
    trained = load_model(tmp_path / "out/model.pth")
    weights = load_file(tmp_path / "out/model.safetensors")
    assert weights.keys() == trained.state_dict.keys()
    assert all(torch.equal(weights[name], trained.state_dict[name]) for name in weights)
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["config"] == json.loads(json.dumps(trained.config)) and len(
        config["pairs"]
    ) == len(trained.pairs)
    card = (tmp_path / "out/README.md").read_text()
    assert card.startswith("---\nlicense: cc-by-nc-4.0\n") and "| overall, top-1 |" in card
    assert "video unreadable" in (tmp_path / "out/dropped.tsv").read_text()
    with pytest.raises(EpicError, match="out: is there already; expected the name of a new folder"):
        publish(demo / "results/model.pth", tmp_path / "out")


def test_a_report_has_seconds_speed_and_figures_and_names_nobody(demo, tmp_path, capsys):
    assert main(["report-back", f"{demo}/results", "--out", f"{tmp_path}/report.txt"]) == 0
    report = (tmp_path / "report.txt").read_text()
    for words in ("versions: Python ", "samples_per_s", "readable ", "memory_mib"):
        assert words in report
    assert re.search(r"^ +scan +7 .*\n +train +1 ", report, re.M)
    for secret in (
        str(demo),
        getpass.getuser() + "/",
        socket.gethostname(),
        "/home",
        "/tmp",
        "/root",
    ):
        assert secret not in report
    shutil.copytree(demo / "results/clean", tmp_path / "clean")
    assert main(["report-back", str(tmp_path / "clean")]) == 1
    assert (
        "clean: holds nothing to report; expected the results of a run" in capsys.readouterr().err
    )


def test_a_published_model_names_no_folder_of_the_machine_that_made_it(demo, tmp_path):
    shutil.copytree(demo / "results/clean", tmp_path / "clean")
    figures = json.loads((demo / "results/metrics.json").read_text())
    figures["trained_on"]["load_from"] = "/home/jan/weights.pth"
    (tmp_path / "metrics.json").write_text(json.dumps(figures))
    model = load_model(demo / "results/model.pth")
    model.config["places"] = [{"root": "/staging/leuven/vsc30123/videos", "list": "results/a.txt"}]
    model.trained_on["load_from"] = "/home/jan/weights.pth"
    save_model(model, tmp_path / "model.pth")
    write_model_card(
        tmp_path / "model.pth", tmp_path / "metrics.json", tmp_path / "clean/dropped.tsv", {},
        tmp_path / "model_card.md", tmp_path / "metafile.yml",
    )  # fmt: skip
    publish(tmp_path / "model.pth", tmp_path / "out")
    found = load_model(tmp_path / "out/model.pth")
    assert found.config["places"] == [{"root": "videos", "list": "results/a.txt"}]
    assert found.trained_on["load_from"] == "weights.pth"
    for path in {*(tmp_path / "out").iterdir()} - {tmp_path / "out/model.pth"}:
        assert b"/home/jan" not in path.read_bytes(), path.name
    assert digest(tmp_path / "out/model.pth") in (tmp_path / "out/README.md").read_text()


def test_a_run_without_a_card_is_told_how_to_make_it(lab, tmp_path):
    path = save_random_model(lab, tmp_path / "model.pth")
    with pytest.raises(EpicError, match="model_card.md: is missing; make it with `epic100 run`"):
        publish(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
