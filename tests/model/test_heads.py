"""Heads over pairs, verbs and nouns; their losses, which wait for no device."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.registry import init_default_scope

from epic100.base.errors import EpicError
from epic100.model.mmaction_import import models
from epic100.model.registered import BaseHead, HeadOf, OutputsLoss
from support.small_runs import Reads

PAIRS = [(0, 1, 6), (0, 2, 3), (2, 1, 1)]
VERBS, NOUNS = 3, 4


def pair_table(path, pairs):
    """Write the file of these pairs; its name."""
    rows = [f"{i}\t{v}\t{n}\t{c}\n" for i, (v, n, c) in enumerate(pairs)]
    path.write_text("pair_id\tverb\tnoun\tcount\n" + "".join(rows))
    return str(path)


@pytest.fixture
def pairs(tmp_path):
    return pair_table(tmp_path / "pairs.tsv", PAIRS)


def samples(labels):
    return [ActionDataSample().set_gt_label(label) for label in labels]


def spec(pairs, heads="pair", **head):
    return {
        "head": {"type": "X3DHead", "in_channels": 8, **head},
        "pairs": pairs,
        "heads": heads,
        "num_verbs": VERBS,
        "num_nouns": NOUNS,
    }


def built(pairs, heads="pair", **head):
    init_default_scope("mmaction")
    torch.manual_seed(0)
    return MODELS.build({"type": "EpicHead", **spec(pairs, heads, **head)})


# Each head has so many outputs, and these labels of four samples.
PARTS = {"pair": (3, [2, 0, 1, 2]), "verb": (VERBS, [2, 0, 0, 2]), "noun": (NOUNS, [1, 1, 2, 1])}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(
    "heads, parts",
    [
        ("pair", ["pair"]),
        ("verb_noun", ["verb", "noun"]),
        ("both", ["pair", "verb", "noun"]),
    ],
)
def test_the_head_that_is_named_is_built_and_its_loss_is_the_sum_of_its_parts(
    pairs, heads, parts, smoothing
):
    sizes, labels = zip(*(PARTS[part] for part in parts), strict=True)
    head = built(pairs, heads, label_smooth_eps=smoothing)
    arguments = spec(pairs, heads, label_smooth_eps=smoothing)
    named = HeadOf(**arguments).config()
    assert named == {
        "type": "X3DHead",
        "in_channels": 8,
        "label_smooth_eps": smoothing,
        "num_classes": sum(sizes),
    }
    torch.manual_seed(0)
    plain = MODELS.build(named)
    assert type(head) is type(plain) and head.num_classes == sum(sizes)
    weights = plain.state_dict()
    assert weights.keys() == head.state_dict().keys()
    assert all(torch.equal(value, weights[name]) for name, value in head.state_dict().items())
    scores = torch.randn(4, sum(sizes))
    found = head.loss_by_feat(scores, samples(PARTS["pair"][1]))["loss_cls"]
    expected = [
        F.cross_entropy(part, torch.tensor(label), label_smoothing=smoothing)
        for part, label in zip(scores.split(sizes, dim=1), labels, strict=True)
    ]
    torch.testing.assert_close(found, sum(expected))


OWN = {"loss_cls": {"type": "BCELossWithLogits"}}


@pytest.mark.parametrize(
    "heads, head, words",
    [
        ("both", {"num_classes": 400}, "has `num_classes` 400, but .*pairs.tsv .*both.*, 10; "),
        ("nouns", {}, "`heads` is 'nouns'; expected one of pair, verb_noun"),
        ("verb_noun", OWN, r"a loss of its own \(BCELoss.*`heads` is 'verb_noun'"),
    ],
)
def test_a_head_with_a_number_or_a_loss_of_its_own_is_one_line(pairs, heads, head, words):
    with pytest.raises(EpicError, match=words):
        built(pairs, heads, **head)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("heads, outputs", [("verb_noun", 7), ("both", 10)])
def test_mixed_labels_are_projected_to_verbs_and_nouns(heads, outputs, smoothing):
    torch.manual_seed(0)
    loss = OutputsLoss(PAIRS, heads, VERBS, NOUNS, smoothing)
    # Shares that are 0 or 1 give the same loss and gradient as class numbers, to the bit.
    for number in range(1, 40):
        scores, ids = torch.randn(2, number, outputs), torch.randint(3, (number,))
        scores[1] = scores[0]
        scores.requires_grad_(True)
        found = loss(scores[0], F.one_hot(ids, 3).float()), loss(scores[1], ids)
        assert found[0].item() == found[1].item()
        torch.stack(found).sum().backward()
        assert torch.equal(*scores.grad)
    ids, others = torch.tensor([0, 1, 2]), torch.tensor([1, 2, 2])
    scores = torch.randn(3, outputs)
    mixed = 0.3 * F.one_hot(ids, 3) + 0.7 * F.one_hot(others, 3)
    expected = 0.3 * loss(scores, ids) + 0.7 * loss(scores, others)
    torch.testing.assert_close(loss(scores, mixed), expected)


class Fixed:
    """NumPy's draws, of which the first says which way of mixing is taken."""

    def __init__(self, cut):
        self.rand = lambda: 0.0 if cut else 1.0
        self.beta = lambda *sizes: 0.36 if cut else 0.75
        self.randint = lambda length: length // 2


@pytest.mark.parametrize("shape", [(3, 1, 3, 4, 20, 10), (3, 8, 3, 20, 10)])
def test_a_batch_is_mixed_with_itself_from_the_end(shape, monkeypatch):
    clips = torch.arange(3.0).reshape(-1, *[1] * (len(shape) - 1)).expand(shape).contiguous()
    mix = MODELS.build({"type": "MixClips", "num_classes": 4})
    monkeypatch.setattr(np, "random", Fixed(cut=False))
    found, labelled = mix(clips, samples([1, 2, 3]))
    assert found.flatten(1).unique(dim=1).flatten().tolist() == [0.5, 1.0, 1.5]
    labels = torch.stack([sample.gt_label for sample in labelled]).tolist()
    assert labels == [[0, 0.75, 0, 0.25], [0, 0, 1, 0], [0, 0.25, 0, 0.75]]
    monkeypatch.setattr(np, "random", Fixed(cut=True))
    found, labelled = mix(clips, samples([1, 2, 3]))
    window = found[0].reshape(-1, 20, 10)[0]
    # The pasted window has 0.8 of each side.
    assert window.sum() == 16 * 8 * 2 and (window[2:18, 1:9] == 2).all()
    torch.testing.assert_close(labelled[0].gt_label, torch.tensor([0, 0.36, 0, 0.64]))
    # The clips that were given stay as they are.
    assert clips.flatten(1).unique(dim=1).flatten().tolist() == [0, 1, 2]


# The next tests compare with MMAction2, and watch that nothing waits for the device.
MANY = 40


@pytest.fixture
def many(tmp_path):
    return pair_table(tmp_path / "pairs.tsv", [(0, number, 1) for number in range(MANY)])


SOFT = [torch.eye(MANY)[i] * 0.7 + 0.3 / MANY for i in range(6)]


@pytest.mark.parametrize("smooth", [0.0, 0.1])
@pytest.mark.parametrize("labels", [[3], [0, 1, 2, 3, 4, 39], SOFT, SOFT[:1]])
def test_losses_and_figures_are_mmaction2_s_to_the_bit(many, labels, smooth):
    ours = built(many, label_smooth_eps=smooth)
    scores = torch.randn(len(labels), MANY)
    expected = BaseHead.loss_by_feat(ours, scores, samples(labels))
    found = ours.loss_by_feat(scores, samples(labels))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].item() == value.item(), name
    half = ours.loss_by_feat(scores.bfloat16(), samples(labels))
    # The loss is float32, as autocast makes all losses.
    assert half["loss_cls"].dtype == torch.float32


@pytest.mark.parametrize(
    "heads, own",
    [
        ("pair", {"label_smooth_eps": 0.1}),
        ("pair", {"loss_cls": {"type": "CrossEntropyLoss"}}),
        ("pair", {"type": "I3DHead"}),
        ("both", {}),
    ],
)
def test_a_step_of_head_and_loss_never_waits_for_the_device(many, heads, own):
    """On torch's `meta` device, which has no values: whatever asks for one is caught."""
    head = built(many, heads, **own).to("meta")
    mix = MODELS.build({"type": "MixClips", "num_classes": MANY})
    features = torch.randn(6, 8, 2, 3, 3, device="meta", requires_grad=True)

    def labelled():
        return [sample.to("meta") for sample in samples(range(6))]

    with Reads([]) as theirs, pytest.raises(NotImplementedError):
        BaseHead.loss_by_feat(head, head(features), labelled())
    # MMAction2's own loss does wait, so the watch works.
    assert theirs.found
    with Reads([]) as ours:
        losses = head.loss(features, labelled())
        losses["loss_cls"].backward()
        # Chance chooses Mixup or CutMix each time.
        for _ in range(4):
            head.loss(*mix(features, labelled()))["loss_cls"].backward()
    assert not ours.found and set(losses) == {"loss_cls", "top1_acc", "top5_acc"}


def test_a_head_with_a_loss_of_its_own_keeps_it(pairs):
    @MODELS.register_module(force=True)
    class Own(models.heads.X3DHead):
        def loss_by_feat(self, cls_scores, data_samples):
            return {"loss_cls": cls_scores.sum()}

    assert "loss_by_feat" not in vars(built(pairs, type="Own"))
    assert type(built(pairs, **OWN).loss_cls).__name__ == OWN["loss_cls"]["type"]
