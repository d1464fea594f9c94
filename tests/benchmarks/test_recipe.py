"""The table of docs/evidence/recipe.md: gains over the base, and the models that are trained."""

import pytest
import recipe
from mmaction.registry import DATASETS, MODELS
from mmengine.dataset import pseudo_collate

from support.small_runs import built


def run(choice, seed, action, reductions=("max",)):
    """Make the figures of a run: its top-1 accuracy of actions, by reduction method."""
    figures = {f"readable_{task}_accuracy_at_1": 50.0 for task in ("verb", "noun")}
    figures |= {"readable_action_accuracy_at_1": action, "beyond_train_action_accuracy_at_1": 1.0}
    return {"choice": choice, "seed": seed, "figures": dict.fromkeys(reductions, figures)}


def runs(choice, *actions):
    """Make a run for each seed from 0 on, with these accuracies of actions."""
    return [run(choice, seed, action) for seed, action in enumerate(actions)]


def test_a_gain_is_the_mean_over_seeds_with_student_s_interval():
    _, segment = recipe.rows([*runs("base", 20.0, 30.0, 40.0), *runs("segment", 25.0, 33.0, 44.0)])
    # The gains are 5, 3 and 4: their mean is 4 and their standard deviation 1, and t of two degrees
    # of freedom is 4.303.
    assert segment["gain"] == pytest.approx(4)
    assert segment["interval"] == pytest.approx(4.303 / 3**0.5, abs=0.01)
    line = "| segment | max | 3 | 50.0 ± 0.0 | 50.0 ± 0.0 | 34.0 ± 9.5 | 1.0 | +4.0 ± 2.5 |"
    assert line in recipe.table([segment])


def test_a_gain_of_one_seed_has_no_interval_and_a_row_for_each_reduction_method():
    both = run("both", 0, 21.0, reductions=("max", "heads"))
    _, *rows = recipe.rows([run("base", 0, 20.0), both])
    gains = [(row["fold"], row["gain"], row["interval"]) for row in rows]
    assert gains == [("max", 1, None), ("heads", 1, None)]


@pytest.mark.parametrize("name", recipe.CHOICES)
def test_the_small_model_of_a_choice_takes_the_clips_of_its_pipelines(lab, name):
    choice = recipe.CHOICES[name]
    options = recipe.SMALL | choice.pipelines()
    config = built(lab, config=recipe.RECIPE, heads=choice.heads, options=options)
    model = MODELS.build(config.model)
    sample = DATASETS.build(config.train_dataloader.dataset)[0]
    assert sample["inputs"].shape == (1, 3, 13, recipe.SIDE, recipe.SIDE)
    batch = model.data_preprocessor(pseudo_collate([sample, sample]), training=True)
    assert model(**batch, mode="loss")["loss_cls"] > 0
