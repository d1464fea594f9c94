"""Heads for pairs, verbs and nouns: their outputs, their losses, and the mixing of clips."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample

from epic100.base.errors import EpicError
from epic100.model.mmaction_import import models
from epic100.model.model_file import OUTPUTS
from epic100.model.registered import BaseHead, HeadOf, OutputsLoss
from support.small_runs import Reads

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
    return HeadOf(
        head={"type": "X3DHead", "in_channels": 8, **head},
        pairs=pairs,
        heads=heads,
        num_verbs=VERBS,
        num_nouns=NOUNS,
    )


def built(pairs, heads="pair", **head):
    torch.manual_seed(0)
    return MODELS.build({"type": "EpicHead", **vars(head_of(pairs, heads, **head))})


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("heads", OUTPUTS)
def test_a_head_has_the_outputs_of_its_tasks_and_the_sum_of_their_losses(pairs, heads, smoothing):
    pair_ids = [2, 0, 1, 2]
    # For each task, these are the number of outputs, and the classes of samples of these pairs.
    sizes_and_labels = {
        "pair": (len(PAIRS), pair_ids),
        "verb": (VERBS, [2, 0, 0, 2]),
        "noun": (NOUNS, [1, 1, 2, 1]),
    }
    sizes, labels = zip(*(sizes_and_labels[task] for task in OUTPUTS[heads]), strict=True)
    options = {"type": "X3DHead", "in_channels": 8, "label_smooth_eps": smoothing}
    config = head_of(pairs, heads, **options).config()
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


@pytest.mark.parametrize(
    "heads, head, words",
    [
        ("both", {"num_classes": 400}, "has `num_classes` 400, but .*pairs.tsv .*both.*, 10; "),
        ("nouns", {}, "`heads` is 'nouns'; expected one of pair, verb_noun"),
        ("verb_noun", OWN_LOSS, r"a loss of its own \(BCELoss.*`heads` is 'verb_noun'"),
    ],
    ids=["stated number of outputs", "unknown heads", "own loss with two heads"],
)
def test_a_head_that_contradicts_its_tasks_is_refused(pairs, heads, head, words):
    with pytest.raises(EpicError, match=words):
        built(pairs, heads, **head)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("heads, outputs", [("verb_noun", VERBS + NOUNS), ("both", 3 + 7)])
def test_the_loss_of_shares_equals_that_of_ids_and_is_linear_in_them(heads, outputs, smoothing):
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
def test_the_loss_and_the_accuracies_are_mmaction2_s_to_the_bit(many, labels, smooth):
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
def test_a_training_step_of_a_head_never_waits_for_the_device(many, heads, head):
    """Torch's `meta` device has no values, so an operation that reads one is noticed."""
    built_head = built(many, heads, **head).to("meta")
    mix = MODELS.build({"type": "MixClips", "num_classes": MANY_PAIRS})
    features = torch.randn(6, 8, 2, 3, 3, device="meta", requires_grad=True)

    def labelled():
        return [sample.to("meta") for sample in samples(range(6))]

    # MMAction2's own loss reads values, so such reads are really noticed.
    with Reads([]) as theirs, pytest.raises(NotImplementedError):
        BaseHead.loss_by_feat(built_head, built_head(features), labelled())
    assert theirs.found
    with Reads([]) as ours:
        losses = built_head.loss(features, labelled())
        losses["loss_cls"].backward()
        # Chance chooses Mixup or CutMix each time.
        for _ in range(4):
            built_head.loss(*mix(features, labelled()))["loss_cls"].backward()
    assert not ours.found and set(losses) == {"loss_cls", "top1_acc", "top5_acc"}


def test_a_head_keeps_a_loss_of_its_own(pairs):
    @MODELS.register_module(force=True)
    class OwnHead(models.heads.X3DHead):
        def loss_by_feat(self, cls_scores, data_samples):
            return {"loss_cls": cls_scores.sum()}

    assert "loss_by_feat" not in vars(built(pairs, type="OwnHead"))
    assert type(built(pairs, **OWN_LOSS).loss_cls).__name__ == "BCELossWithLogits"
