"""The tables of docs/evidence/recipe.md and sampling.md."""

import pytest
import torch
from mmaction.registry import DATASETS, MODELS
from mmengine.dataset import pseudo_collate

from benchmarks import recipe, sampling
from epic100.minikitchen import write_annotations
from epic100.scoring.predictions import Predictions
from epic100.segments.annotations import index_segments, load_annotations
from epic100.segments.segment_list import read_segments
from epic100.video.sheet import read_sheet
from support.checkout import CLASSES, ROOT
from support.small_runs import built


def run(choice, seed, action, ways=("max",)):
    figures = {f"readable_{task}_accuracy_at_1": 50.0 for task in ("verb", "noun")}
    figures |= {"readable_action_accuracy_at_1": action, "beyond_train_action_accuracy_at_1": 1.0}
    return {"choice": choice, "seed": seed, "figures": dict.fromkeys(ways, figures)}


def test_gains_are_of_the_same_seeds_with_student_s_interval():
    runs = [run("base", seed, value) for seed, value in enumerate((20.0, 30.0, 40.0))]
    runs += [run("segment", seed, value) for seed, value in enumerate((25.0, 33.0, 44.0))]
    runs += [run("both", 0, 21.0, ("max", "heads"))]
    base, segment, one, heads = recipe.rows(runs)
    assert (base["gain"], base["interval"], base["action"]) == (0, 0, 30)
    # Gains of 5, 3 and 4: mean 4, standard deviation 1, t of two degrees of freedom 4.303.
    assert segment["gain"] == pytest.approx(4)
    assert segment["interval"] == pytest.approx(4.303 / 3**0.5, abs=0.01)
    assert (one["fold"], heads["fold"], heads["gain"], heads["interval"]) == (
        "max", "heads", 1, None,
    )  # fmt: skip
    text = recipe.table([base, segment, one, heads])
    assert "| segment | max | 3 | 50.0 ± 0.0 | 50.0 ± 0.0 | 34.0 ± 9.5 | 1.0 | +4.0 ± 2.5 |" in text
    assert set(recipe.CHOICES) >= {"base", "segment", "both", "verb_noun", "10 clips"}


def test_shuffled_labels_keep_their_counts_and_chance_is_that_of_the_answers(tmp_path):
    path = tmp_path / "list.txt"
    lines = [f"P01/P01_01.MP4 {i} {i + 9} {i % 2} {i % 4} P01_01_{i}\n" for i in range(16)]
    path.write_text("".join(lines))
    true = read_segments(path)
    answers = Predictions("val", true["narration_id"].tolist(), torch.eye(4)[[0] * 8 + [1] * 8],
                          [(0, 0, 4), (1, 1, 4), (0, 2, 4), (1, 3, 4)], 2, 4, {})  # fmt: skip
    assert recipe.chance_of(answers, path) == 25  # both pairs that are said have a quarter each
    recipe.shuffle_labels(path, 0)
    dealt = read_segments(path)
    labels = ["verb", "noun"]
    assert dealt.drop(columns=labels).equals(true.drop(columns=labels))
    assert sorted(dealt[labels].values.tolist()) == sorted(true[labels].values.tolist())
    assert not dealt.equals(true)


def test_what_a_clip_sees_is_counted_by_mmaction2_s_own_samplers(tmp_path):
    videos = {v.video_id: v for v in read_sheet(ROOT / "config/hard_videos.tsv")}
    write_annotations(videos.values(), tmp_path, 0, "hard")
    table = load_annotations(
        tmp_path / "EPIC_100_validation.csv", videos, split="val", classes=CLASSES
    )
    segments, rates = index_segments(table, videos), {n: v.fps for n, v in videos.items()}
    dense = sampling.look(sampling.CHOICES["dense 13 x 6, file's rate"], segments, rates)
    frames = segments["stop"] - segments["start"]
    assert dense["shorter"] == pytest.approx(100 * (frames < 73).mean())
    assert dense["seconds"] == pytest.approx(73 / 59.94, abs=0.01)
    slow = sampling.look(sampling.CHOICES["dense 13 x 6 at 30"], segments, rates)
    assert slow["seconds"] == pytest.approx(2 * 72 / 59.94, abs=0.05)
    assert slow["repeated"] > dense["repeated"] > 0
    spread = sampling.look(sampling.CHOICES["segment 13"], segments, rates)
    assert spread["repeated"] == 0 and spread["seen"] > 90 > dense["seen"]


@pytest.mark.parametrize("name", recipe.CHOICES)
def test_the_small_model_of_a_choice_takes_the_clips_of_its_pipelines(lab, name):
    choice = recipe.CHOICES[name]
    config = built(lab, config=recipe.RECIPE, heads=choice.heads,
                   options=recipe.SMALL | choice.pipelines())  # fmt: skip
    model = MODELS.build(config.model)
    sample = DATASETS.build(config.train_dataloader.dataset)[0]
    assert sample["inputs"].shape == (1, 3, 13, recipe.SIDE, recipe.SIDE)
    losses = model(**model.data_preprocessor(pseudo_collate([sample] * 2), True), mode="loss")
    assert losses["loss_cls"] > 0
