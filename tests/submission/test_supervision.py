import pytest

from epic100.submission.supervision import contradictions

K400 = "checkpoints/x3d_s_13x6x1_facebook-kinetics400-rgb_20201027-623825a0.pth"


def said(sls, split, weights):
    levels = dict(zip(("pt", "tl", "td"), sls, strict=True))
    return contradictions(levels, {"split": split, "load_from": weights} if split else {})


@pytest.mark.parametrize(
    "sls, split, weights",
    [
        ((2, 3, 3), "train", K400),
        ((2, 3, 4), "trainval", K400),
        ((0, 3, 3), "train", None),
        ((3, 3, 3), "train", "videomae_k400.pth"),  # learned from it without labels
        ((1, 3, 3), "train", "imagenet_resnet.pth"),
        ((5, 5, 4), "trainval", "private.pth"),
        ((0, 4, 3), "train", None),
        ((0, 3, 4), None, None),
    ],
)
def test_levels_that_can_be_true_are_left_alone(sls, split, weights):
    assert said(sls, split, weights) == []


@pytest.mark.parametrize(
    "sls, split, weights, words",
    [
        ((2, 3, 3), "train", None, "pt is 2, but the model was trained from scratch: 0"),
        ((0, 3, 3), "train", K400, f"pt is 0, but training started from {K400}: 2 for Kin"),
        ((1, 3, 3), "train", K400, f"pt is 1 (images only), but {K400} learned from vid"),
        ((2, 2, 3), "train", K400, "tl is 2, but start and end of each segment were used: 3"),
        ((2, 3, 3), "trainval", K400, "td is 3, but the model was trained on trainval: 4"),
        ((2, 3, 4), "train", K400, "td is 4, but the model was trained on train: 3"),
        ((2, 3, 5), "trainval", K400, "td is 5, but the model was trained on trainval: 4"),
    ],
)
def test_a_level_that_cannot_be_true_is_one_sentence(sls, split, weights, words):
    (sentence,) = said(sls, split, weights)
    assert sentence.startswith(f"export: sls: {words}")
