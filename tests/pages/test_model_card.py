"""What a lab gives away of a run: the model card."""

import json
from importlib.metadata import version

import pytest
import torch
from mmaction.apis import inference_recognizer

from epic100.base.text_table import read_frame, write_frame
from epic100.data.official_lists import DATA_SET
from epic100.model.model_file import digest, load_model, save_model
from epic100.pages.report import LOADING, without_folders, write_model_card
from epic100.scoring.metrics import wilson

# The metrics of a run: 25 % of 40 segments are right, and 50 % of the 30 with a prediction.
FIGURES = {
    "data": DATA_SET,
    "segments": 40,
    "predicted": 30,
    "reduce": "max",
    "action_head_accuracy_at_1": 50.0,
    "trained_on": {"load_from": "/home/jan/weights.pth"},
    **{
        f"{group}_{task}_accuracy_at_1": 25.0
        for group in ("overall", "readable")
        for task in ("verb", "noun", "action")
    },
}


# So many segments of each participant are in videos that only the decoder judged.
UNSURE_OF_PARTICIPANT = 7


@pytest.fixture(scope="module")
def run(lab, model, tmp_path_factory):
    """The folder of a run on EPIC-KITCHENS-100: a model that names folders, its card, its files."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "clean").mkdir()
    trained = load_model(model)
    trained.config["places"] = [{"root": "/staging/jan/videos", "list": "results/a.txt"}]
    trained.trained_on["load_from"] = "/home/jan/weights.pth"
    save_model(trained, folder / "model.pth")
    (folder / "metrics.json").write_text(json.dumps(FIGURES))
    (folder / "clean/dropped.tsv").write_text(
        "narration_id\tsplit\treason\n"
        "P09_01_0\ttrain\tvideo unreadable: cannot open\n"
        "P09_02_0\ttrain\ttouches damaged frames 0-9 (truncated: 1 of 9 pictures)\n"
        "P09_02_1\ttrain\ttouches damaged frames 1-9 (truncated: 1 of 9 pictures)\n"
    )
    salvage = read_frame(f"{lab.results}/clean/salvage.tsv")
    unsure = salvage.assign(decoder_only=UNSURE_OF_PARTICIPANT)
    write_frame(unsure, folder / "clean/salvage.tsv")
    write_model_card(
        folder / "model.pth",
        folder / "metrics.json",
        folder / "clean/dropped.tsv",
        folder / "clean/salvage.tsv",
        {"pair table": f"{lab.results}/clean/pairs.tsv"},
        folder / "model_card.md",
    )
    return folder


def test_the_card_has_its_content(run):
    all_low, all_high = wilson(25.0, FIGURES["segments"])
    low, high = wilson(50.0, FIGURES["predicted"])
    participants = len(read_frame(run / "clean/salvage.tsv"))
    expected = (
        f"| overall, top-1 | 25.0 ({all_low:.1f}-{all_high:.1f}) |",
        f"| head over pairs, top-1 | | | 50.0 ({low:.1f}-{high:.1f}) | 30 |",
        f"{UNSURE_OF_PARTICIPANT * participants} of the segments kept are of videos judged by their"
        " decoder only",
        # The fixture `run` drops one segment for the first reason, and two for the second one.
        "- train: 1, video unreadable",
        # No range of frames follows, since the line ends here.
        "- train: 2, touches damaged frames\n",
        f"`{digest(run / 'model.pth')}`",
        "| pair table | pairs.tsv | `",
        "- optimizer: AdamW",
        "- start: weights.pth",
        f"- torch {version('torch')}",
        "- seed: 0",
        "no commercial use",
    )
    card = (run / "model_card.md").read_text()
    assert [words for words in expected if words not in card] == []


@pytest.mark.slow
def test_mmaction2_predicts_by_the_card_s_lines(run, lab):
    lines = LOADING.format(path=run / "model.pth")
    assert lines in (run / "model_card.md").read_text()
    variables: dict = {}
    exec(lines, variables)
    model, trained = variables["model"], load_model(run / "model.pth")
    weights = model.state_dict()
    assert all(torch.equal(weights[name], trained.state_dict[name]) for name in weights)
    video, *_ = sorted((lab.folder / "videos").rglob("*.MP4"))
    sample = inference_recognizer(model, str(video))
    assert sample.pred_score.shape == (len(trained.pairs),)
    assert sample.pred_score.sum().item() == pytest.approx(1, abs=1e-5)


def test_the_card_names_no_folder_of_ours(run):
    assert "jan" not in (run / "model_card.md").read_text()


@pytest.mark.parametrize(
    "path",
    ["jan/weights.pth", "file:///home/jan/weights.pth", "~jan/weights.pth"],
    ids=["relative path", "file URL", "home of a user"],
)
def test_a_weights_path_becomes_its_file_name(path):
    assert without_folders({"load_from": path}) == {"load_from": "weights.pth"}


def test_intervals_of_accuracies_are_those_of_wilson():
    # Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662, 0 of 20 gives 0 to 0.1611.
    assert wilson(100 * 81 / 263, 263) == pytest.approx((25.53, 36.62), abs=0.01)
    assert wilson(0, 20) == pytest.approx((0, 16.11), abs=0.01)
