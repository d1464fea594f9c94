"""The recipes: their published numbers, what they train, and the pages about them.

The decay of each weight is tested here, too. Whole training steps, with the rate of each layer, are
tested in test_reference_steps.py.
"""

import itertools

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.optim import build_optim_wrapper
from torch import nn

import epic100.training.hooks  # noqa: F401  (registers the constructor)
from epic100.base.errors import EpicError
from epic100.data.pairs import read_pairs, write_pairs
from support.zoo import shrunk
from tools import recipe_pages
from tools.recipe_pages import DEFAULT, RECIPES, SCRATCH, numbers, recipe, stated


@pytest.mark.parametrize("name", RECIPES)
def test_numbers_have_sources_and_differences_reasons(name):
    config = recipe(name)
    # A fault is a number without a source, or a difference from the published value whose reason is
    # missing, or is given although there is none.
    assert recipe_pages.faults(config) == []
    assert config.reference.numbers and ("differs" in config.reference)


@pytest.mark.parametrize(
    "name, parts, key, here",
    [
        # The default of MMAction2's head.
        ("mvitv2_s", "model.cls_head.head.dropout_ratio", "dropout", 0.5),
        ("tsn_r50", "model.cls_head.head.init_std", "head_init", 0.01),
        ("slowfast_r50", "model.cls_head.loss", "loss", "sum of verb, noun"),
        ("videomae_b", "model.backbone.drop_path_rate", "drop_path", None),
        ("mvitv2_s", "optim_wrapper.optimizer.betas", "betas", (0.9, 0.999)),
        ("mvitv2_s", "optim_wrapper.optimizer.weight_decay", "decay", 0.01),
        ("mvitv2_s", "param_scheduler.1.eta_min_ratio", "schedule", "cosine of 100 epochs to 0"),
        ("tsn_r50", "train_dataloader.dataset.pipeline.5.flip_ratio", "flip", 0.5),
    ],
)
def test_an_unstated_number_is_the_built_object_s(name, parts, key, here):
    config = recipe(name)
    *path, last = parts.split(".")
    section = config
    for part in path:
        section = section[int(part) if part.isdigit() else part]
    del section[last]
    assert stated(config)[key] == here


def test_unknown_start_weights_are_an_error():
    config = recipe(DEFAULT)
    config.load_from = "https://download.openmmlab.com/x3d_s_something.pth"
    with pytest.raises(ValueError, match="no words for the start weights .*x3d_s_something"):
        stated(config)


def test_an_unknown_schedule_is_an_error():
    config = recipe("tsn_r50")
    config.param_scheduler[-1].type = "PolyLR"
    with pytest.raises(ValueError, match="no words for the schedule PolyLR; known are"):
        stated(config)


@pytest.mark.slow
def test_pages_are_printed_from_the_recipes():
    page = recipe_pages.PUBLISHED.read_text()
    assert recipe_pages.between(page, recipe_pages.published()) == page
    table = recipe_pages.COSTS.read_text()
    for line in recipe_pages.costs(flops=False).splitlines():
        assert line.removesuffix(" |") in table


@pytest.mark.weekly
def test_the_costs_are_counted_on_the_models():
    table = recipe_pages.COSTS.read_text()
    assert recipe_pages.between(table, recipe_pages.costs()) == table


# These recipes have another loss and rate than was published. Their gradient is so many times as
# large: with the loss of epic-kitchens-slowfast, or that of SlowFast for the last.
GRADIENT_RATIOS = {DEFAULT: 2.2, "x3d_m": 2.2, SCRATCH: 1.56}
FEATURES, PAIRS = 432, 3568


@pytest.fixture(scope="module")
def pair_table(tmp_path_factory):
    """Write as many pairs as EPIC_100_train.csv has, evenly spaced among all."""
    every = [*itertools.product(range(97), range(300))]
    pairs = pd.DataFrame(every[:: len(every) // PAIRS][:PAIRS], columns=["verb", "noun"])
    path = tmp_path_factory.mktemp("pairs") / "pairs.tsv"
    write_pairs(pairs.assign(count=1).rename_axis("pair_id").reset_index(), path)
    return path


@pytest.mark.parametrize("name", GRADIENT_RATIOS)
def test_a_rate_compensates_another_loss_s_gradient(name, pair_table):
    config = recipe(name)
    config.model.cls_head.pairs = str(pair_table)
    torch.manual_seed(0)
    pair_ids = torch.randint(PAIRS, (16,))
    verbs, nouns = torch.tensor(read_pairs(pair_table))[pair_ids, :2].T
    features = torch.randn(16, FEATURES, requires_grad=True)
    layer = nn.Linear(FEATURES, PAIRS + 97 + 300)
    nn.init.normal_(layer.weight, std=0.01)
    scores = layer(features)
    pair_scores, verb_scores, noun_scores = scores.split([PAIRS, 97, 300], dim=1)
    samples = [ActionDataSample().set_gt_label(int(number)) for number in pair_ids]
    own_loss = MODELS.build(config.model.cls_head).loss_by_feat(scores, samples)["loss_cls"]
    published_loss = {
        "one head": F.cross_entropy(pair_scores, pair_ids),
        "mean of verb, noun": (
            F.cross_entropy(verb_scores, verbs) + F.cross_entropy(noun_scores, nouns)
        )
        / 2,
    }[numbers(config)["loss"][0]]
    own_gradient, published_gradient = (
        torch.autograd.grad(loss, features, retain_graph=True)[0].norm()
        for loss in (own_loss, published_loss)
    )
    ratio = float(own_gradient / published_gradient)
    assert ratio == pytest.approx(GRADIENT_RATIOS[name], rel=0.04)
    published_rate, _ = numbers(config)["rate"]
    assert stated(config)["rate"] * ratio == pytest.approx(published_rate, rel=0.05)


def optimizer_groups(name, rules=None, head_learns=True):
    """Make the optimizer of a small model; return the weights by name, and its groups.

    Args:
        name: The recipe.
        rules: Its `paramwise_cfg`; None means the recipe's own.
        head_learns: False freezes the head.
    """
    _, config, options = shrunk(name)
    config.merge_from_dict(options)
    if rules is not None:
        config.optim_wrapper.paramwise_cfg = rules
    # Autocast needs a GPU.
    wrapper = {"type": "OptimWrapper"} | {
        key: config.optim_wrapper.get(key) for key in ("constructor", "optimizer", "paramwise_cfg")
    }
    backbone = MODELS.build(config.model.backbone)
    network = nn.ModuleDict({"backbone": backbone, "cls_head": nn.Linear(8, 4)})
    network.cls_head.requires_grad_(head_learns)
    groups = build_optim_wrapper(network, wrapper).optimizer.param_groups
    return dict(network.named_parameters()), groups


@pytest.mark.parametrize(
    "name, undecayed",
    [
        pytest.param("mvitv2_s", (), id="norms and biases"),
        pytest.param("avion_b", ("cls_token", "pos_embed"), id="named embeddings"),
    ],
)
def test_only_norms_biases_and_embeddings_skip_decay(name, undecayed):
    parameters, groups = optimizer_groups(name)
    flat = {
        key
        for key, parameter in parameters.items()
        if parameter.ndim < 2 or any(part in key for part in undecayed)
    }
    names = {parameter: key for key, parameter in parameters.items()}
    by_decay = {
        group["weight_decay"]: {names[parameter] for parameter in group["params"]}
        for group in groups
    }
    optimizer = recipe(name).optim_wrapper.optimizer
    assert by_decay == {0.0: flat, optimizer.weight_decay: parameters.keys() - flat}
    assert {group["lr"] for group in groups} == {optimizer.lr}


def test_without_rules_everything_unfrozen_decays():
    rules = {"no_decay": []}
    parameters, groups = optimizer_groups("tsn_r50", rules=rules, head_learns=False)
    assert {group["weight_decay"] for group in groups} == {5e-4}
    grouped = {parameter for group in groups for parameter in group["params"]}
    assert grouped == {p for key, p in parameters.items() if key.startswith("backbone.")}


@pytest.mark.parametrize(
    "rules, words",
    [
        ({"norm_decay_mult": 0.0}, "has norm_decay_mult, which is none of decay_from, no_dec"),
        ({"layer_decay": 0.9}, "layer_decay` is 0.9, but no parameter of the backbone is in a bl"),
    ],
    ids=["rule of MMEngine", "layers of a CNN"],
)
def test_a_rule_that_cannot_apply_is_one_line(rules, words):
    with pytest.raises(EpicError, match=words):
        optimizer_groups("x3d_m", rules=rules)
