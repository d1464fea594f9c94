"""What the outputs of a model's last layer stand for: pairs, or verbs and nouns, or all three."""

from collections.abc import Mapping

from torch import Tensor

HEADS = {"pair": ("pair",), "verb_noun": ("verb", "noun"), "both": ("pair", "verb", "noun")}


def head_sizes(heads: str, pairs: int, verbs: int, nouns: int) -> dict[str, int]:
    """Outputs of each head, by "pair", "verb" and "noun", in the order of the last layer.

    Args:
        heads: A key of `HEADS`.
        pairs: Pairs of the pair table.
        verbs: Verb classes.
        nouns: Noun classes.
    """
    sizes = {"pair": pairs, "verb": verbs, "noun": nouns}
    return {head: sizes[head] for head in HEADS[heads]}


def head_logits(scores: Tensor, sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """The scores of each head, taken apart by their place; `scores` [..., outputs of all heads]."""
    parts = scores.split(list(sizes.values()), dim=-1)
    return dict(zip(sizes, parts, strict=True))
