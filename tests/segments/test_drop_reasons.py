import re

import pytest

from epic100.segments.drop_reasons import DropReason, kind_of


@pytest.mark.parametrize("reason, details, sentence", [
    (DropReason.EXCLUDED, ("exclude",),
     "participant left out by the config (participants: exclude)"),
    (DropReason.VIDEO_MISSING, ("no file a.MP4",), "video missing"),
    (DropReason.VIDEO_UNREADABLE, ("cannot open: {}",), "video unreadable: cannot open: {}"),
    (DropReason.VIDEO_DAMAGED, ("3 errors",), "video damaged: 3 errors"),
    (DropReason.AFTER_THE_END, (70,), "starts after the video's end (frame 70)"),
    (DropReason.DAMAGED_FRAMES, (3, 9, "x (1)"), "touches damaged frames 3-9 (x (1))"),
])  # fmt: skip
def test_each_kind_has_its_sentence_and_is_known_again_by_it(reason, details, sentence):
    """These sentences are in `dropped.tsv` files that others read: they do not change."""
    assert reason.sentence(*details) == sentence
    assert kind_of(sentence) == reason.value[0] == re.sub(r"[\d(:].*", "", sentence).strip()


def test_no_kind_is_taken_for_another():
    kinds = [reason.value[0] for reason in DropReason]
    assert [kind_of(kind) for kind in kinds] == kinds and len(set(kinds)) == len(kinds)


def test_an_unknown_sentence_is_a_kind_of_its_own():
    assert kind_of("bitten by a dog 3 times") == "bitten by a dog 3 times"
