"""Heads for pairs, verbs and nouns: their outputs, their losses, and the mixing of clips."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from torch import nn

from epic100.base.errors import EpicError
from epic100.model.mmaction_import import models
from epic100.model.model_file import OUTPUTS
from epic100.model.registered import LOSS_FIELD, BaseHead, OutputsLoss, epic_head, head_config

# Verb, noun and count of three pairs.
PAIRS = [(0, 1, 6), (0, 2, 3), (2, 1, 1)]
VERBS, NOUNS = 3, 4


def pair_table(path, pairs):
    """Write a pair table, and return its path."""
    rows = [f"{i}\t{verb}\t{noun}\t{count}\n" for i, (verb, noun, count) in enumerate(pairs)]
    path.write_text("pair_id\tverb\tnoun\tcount\n" + "".join(rows))
    return str(path)


@pytest.fixture
def pairs(tmp_path):
    return pair_table(tmp_path / "pairs.tsv", PAIRS)


def samples(labels):
    return [ActionDataSample().set_gt_label(label) for label in labels]


def head_of(pairs, heads="pair", **head):
    return {
        "head": {"type": "X3DHead", "in_channels": 8, **head},
        "pairs": pairs,
        "heads": heads,
        "num_verbs": VERBS,
        "num_nouns": NOUNS,
    }


def built(pairs, heads="pair", **head):
    torch.manual_seed(0)
    return MODELS.build({"type": "EpicHead", **head_of(pairs, heads, **head)})


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("heads", OUTPUTS)
def test_a_head_sums_its_tasks_losses(pairs, heads, smoothing):
    pair_ids = [2, 0, 1, 2]
    # For each task, these are the number of outputs, and the classes of samples of these pairs.
    sizes_and_labels = {
        "pair": (len(PAIRS), pair_ids),
        "verb": (VERBS, [2, 0, 0, 2]),
        "noun": (NOUNS, [1, 1, 2, 1]),
    }
    sizes, labels = zip(*(sizes_and_labels[task] for task in OUTPUTS[heads]), strict=True)
    options = {"type": "X3DHead", "in_channels": 8, "label_smooth_eps": smoothing}
    config = head_config(**head_of(pairs, heads, **options))
    assert config == {**options, "num_classes": sum(sizes)}
    head = built(pairs, heads, **options)
    torch.manual_seed(0)
    weights_of_mmaction = MODELS.build(config).state_dict()
    assert head.state_dict().keys() == weights_of_mmaction.keys()
    assert all(map(torch.equal, head.state_dict().values(), weights_of_mmaction.values()))
    scores = torch.randn(4, sum(sizes))
    losses = [
        F.cross_entropy(logits, torch.tensor(classes), label_smoothing=smoothing)
        for logits, classes in zip(scores.split(sizes, dim=1), labels, strict=True)
    ]
    found = head.loss_by_feat(scores, samples(pair_ids))["loss_cls"]
    torch.testing.assert_close(found, sum(losses))


# A recipe may state such a loss of its own.
OWN_LOSS = {"loss_cls": {"type": "BCELossWithLogits"}}


@MODELS.register_module()
class LossWithWeights(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)


@pytest.mark.parametrize(
    "heads, head, words",
    [
        ("both", {"num_classes": 400}, "has `num_classes` 400, but .*pairs.tsv .*both.*, 10; "),
        ("nouns", {}, "`heads` is 'nouns'; expected one of pair, verb_noun"),
        (
            "verb_noun",
            {"loss_cls": {"type": "LossWithWeights"}},
            r"\(LossWithWeights\) has weights",
        ),
    ],
    ids=["stated number of outputs", "unknown heads", "loss with weights and two heads"],
)
def test_a_head_that_contradicts_its_tasks_is_rejected(pairs, heads, head, words):
    with pytest.raises(EpicError, match=words):
        built(pairs, heads, **head)


@MODELS.register_module()
class SquaredLoss(nn.Module):
    """A loss of a user's own, of ids or shares; `named` makes it return a dict."""

    def __init__(self, named=False):
        super().__init__()
        self.named = named

    def forward(self, scores, labels):
        if labels.dim() == 1:
            labels = F.one_hot(labels, scores.shape[1])
        loss = ((scores - labels) ** 2).sum()
        return {"loss_square": loss, "largest": scores.max()} if self.named else loss


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("heads", OUTPUTS)
@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_an_own_loss_applies_to_each_task(pairs, heads, reduce, smoothing):
    own = {"type": "SquaredLoss"}
    described = head_of(pairs, heads, loss_cls=own, label_smooth_eps=smoothing)
    head = epic_head(**described, loss=reduce)
    sizes = [{"pair": len(PAIRS), "verb": VERBS, "noun": NOUNS}[task] for task in OUTPUTS[heads]]
    table = torch.tensor([(pair, verb, noun) for pair, (verb, noun, _) in enumerate(PAIRS)])
    scores, ids = torch.randn(3, sum(sizes)), torch.tensor([2, 0, 1])
    expected = []
    for task, logits in zip(OUTPUTS[heads], scores.split(sizes, dim=1), strict=True):
        classes = table[ids, ["pair", "verb", "noun"].index(task)]
        shares = F.one_hot(classes, logits.shape[1]) * (1 - smoothing) + smoothing / logits.shape[1]
        expected.append(((logits - shares) ** 2).sum())
    total = torch.stack(expected).sum() if reduce == "sum" else torch.stack(expected).mean()
    found = head.loss_by_feat(scores, samples(ids.tolist()))
    torch.testing.assert_close(found["loss_cls"], total)
    # The labels of mixed clips are shares.
    mixed = head.loss_by_feat(scores, samples(F.one_hot(ids, len(PAIRS)).float()))
    torch.testing.assert_close(mixed["loss_cls"], total)
    # A loss may return several values by name.
    named = epic_head(**head_of(pairs, heads, loss_cls=own | {"named": True}), loss=reduce)
    assert {"loss_square", "largest"} <= named.loss_by_feat(scores, samples([2, 0, 1])).keys()


@pytest.mark.parametrize("loss_cls", [{}, {"loss_cls": {"type": "SquaredLoss"}}])
@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_a_validation_computes_the_loss_of_the_training(pairs, reduce, loss_cls):
    described = head_of(pairs, "both", label_smooth_eps=0.1, average_clips="prob", **loss_cls)
    head = epic_head(**described, loss=reduce).eval()
    # There are two views of each of four samples; the second one's pair is not in training.
    features = torch.randn(8, 8, 2, 3, 3)
    validated = head.predict(features, samples([2, -1, 0, 1]))
    fields = [sample.get(LOSS_FIELD) for sample in validated]
    assert fields[1] is None and fields[0] == fields[2] == fields[3]
    trained = head.loss(features[[0, 1, 4, 5, 6, 7]], samples([2, 2, 0, 0, 1, 1]))["loss_cls"]
    assert fields[0]["loss"] == pytest.approx(trained.item())
    assert all(sample.pred_score.shape == (3 + 7,) for sample in validated)
    # A prediction calls the head itself, which computes no loss.
    assert head(features).shape == (8, 3 + 7)
    assert head.predict(features[:2], samples([-1]))[0].get(LOSS_FIELD) is None


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("heads, outputs", [("verb_noun", VERBS + NOUNS), ("both", 3 + 7)])
def test_shares_and_ids_have_the_same_loss(heads, outputs, smoothing):
    torch.manual_seed(0)
    loss = OutputsLoss(PAIRS, heads, VERBS, NOUNS, smoothing)
    # Shares that are 0 or 1 give the loss and the gradient of ids, to the bit.
    for batch_size in range(1, 40):
        scores = torch.randn(1, batch_size, outputs).repeat(2, 1, 1).requires_grad_(True)
        ids = torch.randint(3, (batch_size,))
        of_shares, of_ids = loss(scores[0], F.one_hot(ids, 3).float()), loss(scores[1], ids)
        assert of_shares.item() == of_ids.item()
        (of_shares + of_ids).backward()
        assert torch.equal(*scores.grad)
    scores, ids, other_ids = (
        torch.randn(3, outputs),
        torch.tensor([0, 1, 2]),
        torch.tensor([1, 2, 2]),
    )
    shares = 0.3 * F.one_hot(ids, 3) + 0.7 * F.one_hot(other_ids, 3)
    expected = 0.3 * loss(scores, ids) + 0.7 * loss(scores, other_ids)
    torch.testing.assert_close(loss(scores, shares), expected)


@pytest.mark.parametrize("shape", [(1, 3, 4, 20, 10), (8, 3, 20, 10)], ids=["3D", "2D"])
@pytest.mark.parametrize(
    "cutmix_share, alpha, share, labels",
    [
        pytest.param(
            0.0, 0.8, 0.75, [[0, 0.75, 0, 0.25], [0, 0, 1, 0], [0, 0.25, 0, 0.75]], id="Mixup"
        ),
        pytest.param(
            1.0, 1.0, 0.36, [[0, 0.36, 0, 0.64], [0, 0, 1, 0], [0, 0.64, 0, 0.36]], id="CutMix"
        ),
    ],
)
def test_a_batch_is_mixed_with_itself_in_reverse(
    shape, cutmix_share, alpha, share, labels, monkeypatch
):
    # Unless a recipe states another alpha, it is that of VideoMAE and AVION.
    monkeypatch.setattr(np.random, "beta", lambda *alphas: {(alpha, alpha): share}[alphas])
    monkeypatch.setattr(np.random, "randint", lambda length: length // 2)
    mix = MODELS.build({"type": "MixClips", "num_classes": 4, "cutmix_share": cutmix_share})
    # The pixels of the three clips are all 0, all 1 and all 2; their pair ids are 1, 2 and 3.
    clips = torch.arange(3.0).reshape(3, *[1] * len(shape)).expand(3, *shape).contiguous()
    mixed, labelled = mix(clips, samples([1, 2, 3]))
    found = torch.stack([sample.gt_label for sample in labelled])
    torch.testing.assert_close(found, torch.tensor(labels))
    expected = torch.full((20, 10), 0.5)
    if cutmix_share:
        # The pasted window has 0.8 of each side, since 0.8 x 0.8 is 1 - 0.36.
        expected.zero_()[2:18, 1:9] = 2
    assert torch.equal(mixed[0], expected.expand(shape))
    # The clips that were given are not changed.
    assert clips.flatten(1).unique(dim=1).flatten().tolist() == [0, 1, 2]


MANY_PAIRS = 40


@pytest.fixture
def many(tmp_path):
    """A pair table of 40 pairs of verb 0."""
    return pair_table(tmp_path / "pairs.tsv", [(0, noun, 1) for noun in range(MANY_PAIRS)])


# Labels that are shares of pairs, as Mixup makes them.
SOFT = [torch.eye(MANY_PAIRS)[i] * 0.7 + 0.3 / MANY_PAIRS for i in range(6)]


@pytest.mark.parametrize("smooth", [0.0, 0.1])
@pytest.mark.parametrize(
    "labels",
    [[3], [0, 1, 2, 3, 4, 39], SOFT, SOFT[:1]],
    ids=["one id", "ids", "shares", "shares of one"],
)
def test_loss_and_accuracies_are_mmaction2_s_exactly(many, labels, smooth):
    ours = built(many, label_smooth_eps=smooth)
    scores = torch.randn(len(labels), MANY_PAIRS)
    expected = BaseHead.loss_by_feat(ours, scores, samples(labels))
    found = ours.loss_by_feat(scores, samples(labels))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].item() == value.item(), name
    # With autocast the scores are bfloat16, and the loss must be float32 all the same.
    half = ours.loss_by_feat(scores.bfloat16(), samples(labels))
    assert half["loss_cls"].dtype == torch.float32


@pytest.mark.parametrize(
    "heads, head",
    [
        pytest.param("pair", {"label_smooth_eps": 0.1}, id="smoothed labels"),
        pytest.param("pair", {"loss_cls": {"type": "CrossEntropyLoss"}}, id="stated loss"),
        pytest.param("pair", {"type": "I3DHead"}, id="another head"),
        pytest.param("both", {}, id="several tasks"),
    ],
)
def test_a_training_step_never_waits_for_the_device(many, heads, head):
    """Torch's `meta` device has no values, so an operation that reads one is noticed."""
    built_head = built(many, heads, **head).to("meta")
    mix = MODELS.build({"type": "MixClips", "num_classes": MANY_PAIRS})
    features = torch.randn(6, 8, 2, 3, 3, device="meta", requires_grad=True)

    def labelled():
        return [sample.to("meta") for sample in samples(range(6))]

    # A tensor on this device has no values, so a read is an error: MMAction2's own loss reads some.
    with pytest.raises(NotImplementedError):
        BaseHead.loss_by_feat(built_head, built_head(features), labelled())
    losses = built_head.loss(features, labelled())
    losses["loss_cls"].backward()
    # Chance chooses Mixup or CutMix each time.
    for _ in range(4):
        built_head.loss(*mix(features, labelled()))["loss_cls"].backward()
    assert set(losses) == {"loss_cls", "top1_acc", "top5_acc"}


def test_a_head_keeps_a_loss_of_its_own(pairs):
    @MODELS.register_module(force=True)
    class OwnHead(models.heads.X3DHead):
        def loss_by_feat(self, cls_scores, data_samples):
            return {"loss_cls": cls_scores.sum()}

    assert "loss_by_feat" not in vars(built(pairs, type="OwnHead"))
    assert type(built(pairs, **OWN_LOSS).loss_cls).__name__ == "BCELossWithLogits"
