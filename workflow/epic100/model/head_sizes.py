"""The meaning of the last layer's outputs: pairs, or verbs and nouns, or all three."""

from collections.abc import Mapping

from torch import Tensor

from epic100.base.errors import EpicError

HEADS = {"pair": ("pair",), "verb_noun": ("verb", "noun"), "both": ("pair", "verb", "noun")}


def head_sizes(heads: str, pairs: int, verbs: int, nouns: int) -> dict[str, int]:
    """Return the number of outputs of each head, in the order of the last layer.

    Args:
        heads: A key of `HEADS`.
        pairs: Number of pairs in the pair table.
        verbs: Number of verb classes.
        nouns: Number of noun classes.

    Returns:
        Outputs by "pair", "verb" and "noun", as far as the model has these heads.

    Raises:
        EpicError: There are no such heads.
    """
    if heads not in HEADS:
        raise EpicError(f"`heads` is {heads!r}; expected one of {', '.join(HEADS)}")
    sizes = {"pair": pairs, "verb": verbs, "noun": nouns}
    return {head: sizes[head] for head in HEADS[heads]}


def head_logits(scores: Tensor, sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """Split scores by head.

    Args:
        scores: [..., outputs of all heads].
        sizes: The result of `head_sizes`.

    Returns:
        The scores [..., outputs] of each head.
    """
    parts = scores.split(list(sizes.values()), dim=-1)
    return dict(zip(sizes, parts, strict=True))
