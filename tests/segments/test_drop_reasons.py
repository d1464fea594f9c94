import re

import pytest

from epic100.segments.drop_reasons import DropReason, is_damage, kind_of


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
    assert kind_of(sentence) == reason.kind == re.sub(r"[\d(:].*", "", sentence).strip()


def test_no_kind_is_taken_for_another():
    kinds = [reason.kind for reason in DropReason]
    assert [kind_of(kind) for kind in kinds] == kinds and len(set(kinds)) == len(kinds)


def test_an_unknown_sentence_is_a_kind_of_its_own_and_counts_as_damage():
    assert kind_of("bitten by a dog 3 times") == "bitten by a dog 3 times"
    assert is_damage("bitten by a dog 3 times")


def test_who_takes_no_part_and_what_was_never_there_is_no_damage():
    spared = {reason for reason in DropReason if not is_damage(reason.sentence(1, 2, 3))}
    assert spared == {DropReason.EXCLUDED, DropReason.VIDEO_MISSING}
    assert all(is_damage(reason.kind) == reason.is_damage for reason in DropReason)
