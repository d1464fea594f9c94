"""The model card: what it says, and that its three lines load the model."""

import json
import shutil

import pytest
import torch
import yaml
from mmaction.apis import inference_recognizer

from epic100.model.model_file import digest, load_model
from epic100.report.model_card import LOADING, write_model_card
from epic100.report.tables import wilson
from support.models import save_random_model

FIGURES = {
    "segments": 40, "predicted": 30, "reduce": "max", "action_head_accuracy_at_1": 50.0,
    **{f"{group}_{task}_accuracy_at_1": 25.0 for group in ("overall", "readable")
       for task in ("verb", "noun", "action")},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(lab, tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    save_random_model(lab, folder / "model.pth")
    (folder / "metrics.json").write_text(json.dumps(FIGURES))
    shutil.copy(f"{lab.results}/clean/dropped.tsv", folder / "dropped.tsv")
    with (folder / "dropped.tsv").open("a") as file:
        file.write("P09_01_0\ttrain\tvideo unreadable: cannot open\n")
        for number in range(2):
            reason = f"touches damaged frames {number}-9 (truncated: 1 of 9 pictures)"
            file.write(f"P09_02_{number}\ttrain\t{reason}\n")
    write_model_card(
        folder / "model.pth", folder / "metrics.json", folder / "dropped.tsv",
        {"pair table": f"{lab.results}/clean/pairs.tsv"},
        folder / "card.md", folder / "metafile.yml",
    )  # fmt: skip
    return folder


def test_the_card_names_data_recipe_figures_and_versions(folder, lab):
    card = (folder / "card.md").read_text()
    assert f"`{digest(folder / 'model.pth')}`" in card
    assert "| pair table | pairs.tsv | `" in card
    assert "- train: 1, video unreadable" in card
    assert "- train: 2, touches damaged frames\n" in card
    assert "| overall, top-1 | 25.0 (14.2-40.2) |" in card
    assert "| head over pairs, top-1 | | | 50.0 (33.2-66.8) | 30 |" in card
    for words in ("- optimizer: AdamW", "- start: random weights", "- torch ", "- seed: 0"):
        assert words in card


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
