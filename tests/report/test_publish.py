"""What a lab gives away of a run: the model card, the published folder, and the report."""

import getpass
import json
import shutil
import socket
import subprocess

import pytest
import torch
import yaml
from mmaction.apis import inference_recognizer
from safetensors.torch import load_file

from epic100.base.errors import EpicError
from epic100.base.text_table import read_frame, write_frame
from epic100.cli.program import main
from epic100.model.model_file import digest, load_model, save_model
from epic100.report.model_card import LOADING, write_model_card
from epic100.report.publish import publish
from epic100.scoring.metrics import wilson
from epic100.segments.official_lists import DATA_SET


def test_a_published_model_is_whole_and_every_program_reads_its_weights(demo, tmp_path):
    assert main(["publish", f"{demo}/results/model.pth", "--out", f"{tmp_path}/out"]) == 0
    subprocess.run(
        ["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path / "out", check=True
    )
    names = "LICENSES.txt README.md SHA256SUMS config.json dropped.tsv metafile.yml metrics.json"
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == [*names.split(), "model.pth", "model.safetensors"]
    trained = load_model(tmp_path / "out/model.pth")
    weights = load_file(tmp_path / "out/model.safetensors")
    assert weights.keys() == trained.state_dict.keys()
    assert all(torch.equal(weights[name], trained.state_dict[name]) for name in weights)
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["config"] == json.loads(json.dumps(trained.config))
    assert len(config["pairs"]) == len(trained.pairs)
    card = (tmp_path / "out/README.md").read_text()
    assert card.startswith("---\nlicense: unknown\n") and "| overall, top-1 |" in card
    assert "EPIC-KITCHENS-100" not in card and "on the generated mini kitchen" in card
    licenses = (tmp_path / "out/LICENSES.txt").read_text()
    assert "learned from the generated mini kitchen; its owner" in licenses
    assert "video unreadable" in (tmp_path / "out/dropped.tsv").read_text()
    with pytest.raises(EpicError, match="out: is there already; expected the name of a new folder"):
        publish(demo / "results/model.pth", tmp_path / "out")


def test_what_is_attached_to_an_issue_has_seconds_and_figures_and_names_nobody(demo):
    """`diagnosis.txt` and `summary.txt`, as docs/results.md asks for them."""
    report = "".join(
        (demo / f"results/{name}.txt").read_text() for name in ("diagnosis", "summary")
    )
    expected = ("versions: Python ", "segments/s", "readable ")
    assert [words for words in expected if words not in report] == []
    user, host = getpass.getuser() + "/", socket.gethostname()
    secrets = (str(demo), user, host, "/home", "/tmp", "/root")
    assert [secret for secret in secrets if secret in report] == []


@pytest.mark.parametrize(
    "start",
    [
        "/home/jan/weights.pth",
        "jan/weights.pth",
        "file:///home/jan/weights.pth",
        "~jan/weights.pth",
    ],
)
def test_a_published_model_names_no_folder_of_the_machine_that_made_it(demo, tmp_path, start):
    shutil.copytree(demo / "results/clean", tmp_path / "clean")
    figures = json.loads((demo / "results/metrics.json").read_text())
    figures["trained_on"]["load_from"] = start
    figures["data"] = DATA_SET
    (tmp_path / "metrics.json").write_text(json.dumps(figures))
    model = load_model(demo / "results/model.pth")
    model.config["places"] = [{"root": "/staging/leuven/vsc30123/videos", "list": "results/a.txt"}]
    model.trained_on["load_from"] = start
    save_model(model, tmp_path / "model.pth")
    write_model_card(
        tmp_path / "model.pth",
        tmp_path / "metrics.json",
        tmp_path / "clean/dropped.tsv",
        tmp_path / "clean/salvage.tsv",
        {},
        tmp_path / "model_card.md",
        tmp_path / "metafile.yml",
    )
    publish(tmp_path / "model.pth", tmp_path / "out")
    found = load_model(tmp_path / "out/model.pth")
    assert found.config["places"] == [{"root": "videos", "list": "results/a.txt"}]
    assert found.trained_on["load_from"] == "weights.pth"
    assert "weights.pth" in (tmp_path / "out/LICENSES.txt").read_text()
    card = (tmp_path / "out/README.md").read_text()
    assert card.startswith("---\nlicense: cc-by-nc-4.0\n") and "no commercial use" in card
    assert "Bristol: no commercial use" in (tmp_path / "out/LICENSES.txt").read_text()
    for path in {*(tmp_path / "out").iterdir()} - {tmp_path / "out/model.pth"}:
        assert b"jan" not in path.read_bytes(), path.name
    assert digest(tmp_path / "out/model.pth") in (tmp_path / "out/README.md").read_text()


def test_a_run_without_a_card_is_told_how_to_make_it(model, tmp_path):
    with pytest.raises(EpicError, match="model_card.md: is missing; make it with `epic100 run`"):
        publish(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


FIGURES = {
    "data": DATA_SET,
    "segments": 40,
    "predicted": 30,
    "reduce": "max",
    "action_head_accuracy_at_1": 50.0,
    **{
        f"{group}_{task}_accuracy_at_1": 25.0
        for group in ("overall", "readable")
        for task in ("verb", "noun", "action")
    },
}


@pytest.fixture(scope="module")
def folder(lab, model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    shutil.copy(model, folder / "model.pth")
    (folder / "metrics.json").write_text(json.dumps(FIGURES))
    shutil.copy(f"{lab.results}/clean/dropped.tsv", folder / "dropped.tsv")
    with (folder / "dropped.tsv").open("a") as file:
        file.write("P09_01_0\ttrain\tvideo unreadable: cannot open\n")
        for number in range(2):
            reason = f"touches damaged frames {number}-9 (truncated: 1 of 9 pictures)"
            file.write(f"P09_02_{number}\ttrain\t{reason}\n")
    salvage = read_frame(f"{lab.results}/clean/salvage.tsv")
    write_frame(salvage.assign(decoder_only=7), folder / "salvage.tsv")
    write_model_card(
        folder / "model.pth",
        folder / "metrics.json",
        folder / "dropped.tsv",
        folder / "salvage.tsv",
        {"pair table": f"{lab.results}/clean/pairs.tsv"},
        folder / "card.md",
        folder / "metafile.yml",
    )
    return folder


def test_the_card_names_data_recipe_figures_and_versions(folder):
    card = (folder / "card.md").read_text()
    expected = (
        f"`{digest(folder / 'model.pth')}`",
        "| pair table | pairs.tsv | `",
        "- train: 1, video unreadable",
        "21 of the segments kept are of videos judged by their decoder only",
        "- train: 2, touches damaged frames\n",
        "| overall, top-1 | 25.0 (14.2-40.2) |",
        "| head over pairs, top-1 | | | 50.0 (33.2-66.8) | 30 |",
        "- optimizer: AdamW",
        "- start: random weights",
        "- torch ",
        "- seed: 0",
    )
    assert [words for words in expected if words not in card] == []


def test_the_metafile_is_in_mmaction2_s_form(folder):
    metafile = yaml.safe_load((folder / "metafile.yml").read_text())
    (model,) = metafile["Models"]
    assert model["In Collection"] == metafile["Collections"][0]["Name"] == "X3D"
    assert model["Results"][0]["Metrics"]["Top 1 action accuracy"] == 25.0
    assert digest(folder / "model.pth") in model["Weights"]
    card = (folder / "card.md").read_text()
    assert f", {model['Metadata']['Parameters'] / 1e6:.2f} M weights," in card


def test_intervals_are_wilson_s():
    # Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662, 0 of 20 gives 0 to 0.1611.
    assert wilson(100 * 81 / 263, 263) == pytest.approx((25.53, 36.62), abs=0.01)
    assert wilson(0, 20) == pytest.approx((0, 16.11), abs=0.01)


def test_the_two_lines_load_the_model_and_mmaction2_predicts_a_video_by_its_path(folder, lab):
    lines = LOADING.format(path=folder / "model.pth")
    assert len(lines.splitlines()) == 2 and lines in (folder / "card.md").read_text()
    found: dict = {}
    exec(lines, found)
    model = found["model"]
    state = load_model(folder / "model.pth").state_dict
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    sample = inference_recognizer(model, str(sorted((lab.folder / "videos").rglob("*.MP4"))[0]))
    assert sample.pred_score.shape == (len(load_model(folder / "model.pth").pairs),)
    assert sample.pred_score.sum().item() == pytest.approx(1, abs=1e-5)
