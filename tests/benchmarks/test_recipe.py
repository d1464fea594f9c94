"""The table of docs/evidence/recipe.md."""

import pytest
import recipe
from mmaction.registry import DATASETS, MODELS
from mmengine.dataset import pseudo_collate

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
    # The gains are 5, 3 and 4: their mean is 4 and their standard deviation 1, and t of two degrees
    # of freedom is 4.303.
    assert segment["gain"] == pytest.approx(4)
    assert segment["interval"] == pytest.approx(4.303 / 3**0.5, abs=0.01)
    assert one["fold"] == "max"
    assert (heads["fold"], heads["gain"], heads["interval"]) == ("heads", 1, None)
    text = recipe.table([base, segment, one, heads])
    assert "| segment | max | 3 | 50.0 ± 0.0 | 50.0 ± 0.0 | 34.0 ± 9.5 | 1.0 | +4.0 ± 2.5 |" in text
    assert set(recipe.CHOICES) >= {"base", "segment", "both", "verb_noun", "10 clips"}


def test_a_probe_is_compared_with_its_model_on_as_many_clips():
    """It saw eight clips of a segment, and the model one."""
    runs = [run("base", 0, 10.0), run("both", 0, 20.0), run("both, 8 clips", 0, 25.0)]
    *_, probe = recipe.rows([*runs, run("probe", 0, 26.0)])
    assert probe["choice"] == "probe" and probe["gain"] == 1
    eight = recipe.CHOICES["both, 8 clips"]
    assert eight.of == recipe.CHOICES["probe"].of and eight.predict == {"clips": 8}


@pytest.mark.parametrize("name", recipe.CHOICES)
def test_the_small_model_of_a_choice_takes_the_clips_of_its_pipelines(lab, name):
    choice = recipe.CHOICES[name]
    config = built(
        lab, config=recipe.RECIPE, heads=choice.heads, options=recipe.SMALL | choice.pipelines()
    )
    model = MODELS.build(config.model)
    sample = DATASETS.build(config.train_dataloader.dataset)[0]
    assert sample["inputs"].shape == (1, 3, 13, recipe.SIDE, recipe.SIDE)
    losses = model(**model.data_preprocessor(pseudo_collate([sample] * 2), True), mode="loss")
    assert losses["loss_cls"] > 0
