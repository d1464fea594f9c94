"""The recipes: their published numbers, what they train, and the pages and docstrings about them.

The decay and the learning rate of each weight are tested here, too. Whole training steps are tested
in test_reference_steps.py.
"""

import itertools
import re

import pytest
import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from torch import nn

import epic100.training.hooks  # noqa: F401  (registers the constructor)
from epic100.base.errors import EpicError
from support.zoo import shrunk
from tools import recipe_pages
from tools.recipe_pages import DEFAULT, RECIPES, ROOT, SCRATCH, numbers, recipe, stated

RATES = {DEFAULT: "epic-kitchens-slowfast", SCRATCH: "SlowFast", "x3d_m": "epic-kitchens-slowfast"}


@pytest.mark.parametrize("name", RECIPES)
def test_each_number_has_a_source_and_each_difference_a_reason(name):
    config = recipe(name)
    assert recipe_pages.faults(config) == []
    assert config.reference.numbers and ("differs" in config.reference)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda reference: reference.clear(), "missing; expected figure, numbers and differs"),
        (lambda reference: reference.numbers.popitem(), "is .* here; state what it is there"),
        (
            lambda reference: reference.numbers.update({"paper": {"table 3": {"rate": 0.01}}}),
            "paper:table 3; expected owner/repository@commit:path",
        ),
        (
            lambda reference: reference.differs.pop("std"),
            r"std is \[123.* there .*say why in `diff",
        ),
        (lambda reference: reference.differs.update(rate="faster"), "has rate, which is the same"),
        (
            lambda reference: reference.numbers[
                "epic-kitchens/C1-Action-Recognition-TSN-TRN-TSM@e8e1a79"
            ]["configs/tsm_rgb.yaml"].update(lr=1),
            "lr is none of the names",
        ),
    ],
)
def test_a_number_without_source_or_reason_is_one_line(change, words):
    config = recipe("tsm_r50")
    change(config.reference)
    line = recipe_pages.faults(config)[0]
    assert line.startswith("reference: ") and "\n" not in line
    assert re.search(words, line)


def test_docstrings_and_pages_are_printed_from_the_recipes():
    for name, path in RECIPES.items():
        text = (ROOT / path).read_text()
        assert recipe_pages.with_docstring(text, recipe(name)) == text, "run `make keys`"
    page = recipe_pages.PUBLISHED.read_text()
    assert recipe_pages.between(page, recipe_pages.published()) == page
    table = recipe_pages.COSTS.read_text()
    for line in recipe_pages.costs(flops=False).splitlines():
        assert line.removesuffix(" |") in table


@pytest.mark.weekly
def test_the_costs_are_counted_on_the_models():
    table = recipe_pages.COSTS.read_text()
    assert recipe_pages.between(table, recipe_pages.costs()) == table


def published_loss(config, scores, labels):
    """Compute the published loss in plain torch, from scores and labels by head.

    A recipe states it as `one head`, or as `mean of verb, noun` or `sum of ...`.
    """
    published = {name: value for name, (value, _) in numbers(config).items()}
    reduction, _, heads = published["loss"].rpartition(" of ")
    heads = ["pair"] if published["loss"] == "one head" else heads.split(", ")
    smoothing = published["smoothing"]
    losses = [
        F.cross_entropy(scores[head], labels[head], label_smoothing=smoothing) for head in heads
    ]
    return sum(losses) / (len(losses) if reduction == "mean" else 1)


@pytest.mark.parametrize("name", RECIPES)
def test_the_trunk_s_gradient_is_the_published_one_or_the_rate_makes_up_for_it(name, tmp_path):
    """The gradient goes through a new head, with the classes of EPIC-KITCHENS-100 and the number of
    features of X3D-S."""
    config = recipe(name)
    # The train CSV has 3,568 pairs; these are evenly spaced among all.
    pairs = [*itertools.product(range(97), range(300))][:: 97 * 300 // 3568][:3568]
    rows = [f"{i}\t{verb}\t{noun}\t1" for i, (verb, noun) in enumerate(pairs)]
    (tmp_path / "pairs.tsv").write_text("\n".join(["pair_id\tverb\tnoun\tcount", *rows]) + "\n")
    config.model.cls_head.pairs = str(tmp_path / "pairs.tsv")
    init_default_scope("mmaction")
    head = MODELS.build(config.model.cls_head)
    torch.manual_seed(0)
    ids = torch.randint(len(pairs), (16,))
    verb, noun = torch.tensor(pairs)[ids].T
    labels = {"pair": ids, "verb": verb, "noun": noun}
    features = torch.randn(16, 432, requires_grad=True)
    layers = {
        "pair": nn.Linear(432, 3568),
        "verb": nn.Linear(432, 97),
        "noun": nn.Linear(432, 300),
    }
    for layer in layers.values():
        nn.init.normal_(layer.weight, std=0.01)
    scores = {task: layer(features) for task, layer in layers.items()}
    tasks = {"pair": ["pair"], "verb_noun": ["verb", "noun"], "both": list(layers)}
    own_scores = torch.cat([scores[task] for task in tasks[config.model.cls_head.heads]], 1)
    samples = [ActionDataSample().set_gt_label(int(number)) for number in ids]
    own_loss = head.loss_by_feat(own_scores, samples)["loss_cls"]
    their_loss = published_loss(config, scores, labels)
    (own_gradient,) = torch.autograd.grad(own_loss, features, retain_graph=True)
    (their_gradient,) = torch.autograd.grad(their_loss, features, retain_graph=True)
    ratio = float(own_gradient.norm() / their_gradient.norm())
    if "loss" not in config.reference.differs and "smoothing" not in config.reference.differs:
        torch.testing.assert_close(own_gradient, their_gradient)
    elif name in RATES:
        # A larger gradient is made up for by a smaller rate.
        published_rate, _ = numbers(config)["rate"]
        assert stated(config)["rate"] * ratio == pytest.approx(published_rate, rel=0.05)
        assert ratio == pytest.approx(1.56 if name == SCRATCH else 2.2, rel=0.04)
    else:  # AdamW's steps do not depend on the size of a gradient.
        assert stated(config)["optimizer"] == "AdamW"


def grouped(name, rules=None):
    """Group the weights of a small model for its optimizer.

    Returns:
        (rate, decay) of each learned weight by name, all weights by name, and the groups.
    """
    _, config, options = shrunk(name)
    config.merge_from_dict(options)
    if rules is not None:
        config.optim_wrapper.paramwise_cfg = rules
    config.optim_wrapper.type = "OptimWrapper"
    for key in ("dtype", "loss_scale"):
        config.optim_wrapper.pop(key, None)
    init_default_scope("mmaction")
    backbone = MODELS.build(config.model.backbone)
    network = nn.ModuleDict({"backbone": backbone, "cls_head": nn.Linear(8, 4)})
    names = {parameter: name for name, parameter in network.named_parameters()}
    groups = build_optim_wrapper(network, config.optim_wrapper).optimizer.param_groups
    rates_and_decays = {
        names[parameter]: (group["lr"], group["weight_decay"])
        for group in groups
        for parameter in group["params"]
    }
    return rates_and_decays, dict(network.named_parameters()), groups


@pytest.mark.parametrize(
    "name, kept",
    [
        (DEFAULT, ()),
        ("lavila_b", ()),
        ("avion_b", ("cls_token", "pos_embed")),
        ("mvitv2_s", ()),
    ],
)
def test_norms_biases_and_named_embeddings_do_not_decay_and_all_else_does(name, kept):
    """MMEngine's own constructor was used: a rate for LaViLa's backbone switched its rule for norms
    and biases off in the backbone."""
    seen, parameters, groups = grouped(name)
    assert seen.keys() == parameters.keys() and len(groups) == 2
    whole = recipe(name).optim_wrapper.optimizer
    for key, parameter in parameters.items():
        flat = parameter.ndim < 2 or any(part in key for part in kept)
        assert seen[key] == (whole.lr, 0.0 if flat else whole.weight_decay)


def test_a_block_has_a_share_of_the_rate_of_the_block_above():
    seen, _, groups = grouped("videomae_b")
    rates = {key: rate for key, (rate, _) in seen.items()}
    assert rates["cls_head.weight"] == rates["backbone.fc_norm.weight"] == 5e-4
    assert rates["backbone.blocks.1.mlp.layers.1.weight"] == pytest.approx(5e-4 * 0.75)
    assert rates["backbone.blocks.0.norm1.weight"] == pytest.approx(5e-4 * 0.75**2)
    assert rates["backbone.patch_embed.projection.weight"] == pytest.approx(5e-4 * 0.75**3)
    assert len(groups) == 8


def test_without_rules_everything_decays_and_frozen_weights_have_no_group():
    seen, parameters, _ = grouped("tsn_r50", {"no_decay": []})
    frozen = {key for key, parameter in parameters.items() if not parameter.requires_grad}
    assert seen.keys() == parameters.keys() - frozen
    assert {decay for _, decay in seen.values()} == {5e-4}


def test_a_rule_of_mmengine_s_constructor_is_one_line():
    with pytest.raises(EpicError, match="has norm_decay_mult, which is none of decay_from, no_dec"):
        grouped("x3d_m", {"norm_decay_mult": 0.0})
