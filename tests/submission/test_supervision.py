import pytest

from epic100.submission.supervision import contradictions

K400 = "checkpoints/x3d_s_13x6x1_facebook-kinetics400-rgb_20201027-623825a0.pth"


def levels(pt, tl, td):
    return {"pt": pt, "tl": tl, "td": td}


@pytest.mark.parametrize(
    "sls, split, weights",
    [
        (levels(2, 3, 3), "train", K400),
        (levels(2, 3, 4), "trainval", K400),
        (levels(0, 3, 3), "train", None),
        (levels(3, 3, 3), "train", "videomae_k400.pth"),  # learned from it without labels
        (levels(1, 3, 3), "train", "imagenet_resnet.pth"),
        (levels(5, 5, 4), "trainval", "private.pth"),
        (levels(0, 4, 3), "train", None),
    ],
)
def test_levels_that_can_be_true_are_left_alone(sls, split, weights):
    assert contradictions(sls, {"split": split, "load_from": weights}) == []


@pytest.mark.parametrize(
    "sls, split, weights, words",
    [
        (levels(2, 3, 3), "train", None, "pt is 2, but the model was trained from scratch: 0"),
        (levels(0, 3, 3), "train", K400, f"pt is 0, but training started from {K400}: 2 for Kin"),
        (levels(1, 3, 3), "train", K400, f"pt is 1 (images only), but {K400} learned from vid"),
        (levels(2, 2, 3), "train", K400, "tl is 2, but start and end of each segment were used: 3"),
        (levels(2, 3, 3), "trainval", K400, "td is 3, but the model was trained on trainval: 4"),
        (levels(2, 3, 4), "train", K400, "td is 4, but the model was trained on train: 3"),
        (levels(2, 3, 5), "trainval", K400, "td is 5, but the model was trained on trainval: 4"),
    ],
)
def test_a_level_that_cannot_be_true_is_one_sentence(sls, split, weights, words):
    (sentence,) = contradictions(sls, {"split": split, "load_from": weights})
    assert sentence.startswith(f"export: sls: {words}")


def test_nothing_is_said_of_a_split_that_is_not_known():
    assert contradictions(levels(0, 3, 4), {}) == []
