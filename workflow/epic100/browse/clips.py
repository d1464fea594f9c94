"""Which clips go into the page's folder, and how they get there."""

import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path


def in_order(wrong: Sequence[bool], participants: Sequence[str]) -> list[int]:
    """Order segments by how much one wants to look at them.

    Segments with a wrong guess come first. Within these, and within the others, everybody's first
    segment comes before anybody's second one, so that no participant takes all the room.

    Args:
        wrong: Whether the guess of each segment is wrong.
        participants: The participant of each.

    Returns:
        Places of the segments, in this order.
    """
    before: Counter[tuple[bool, str]] = Counter()
    keys = []
    for place, group in enumerate(zip(wrong, participants, strict=True)):
        keys.append((not group[0], before[group], place))
        before[group] += 1
    return [place for *_, place in sorted(keys)]


def that_fit(sizes: Mapping[int, int], order: Sequence[int], most: int) -> list[int]:
    """Choose what fits into `most` bytes: in `order`, leaving out what is too large for the rest.

    Args:
        sizes: Bytes of the clips that exist, by segment.
        order: Segments, those to keep first.
        most: Bytes.

    Returns:
        The segments whose clips are kept, in `order`.
    """
    kept = []
    for place in order:
        size = sizes.get(place)
        if size is not None and size <= most:
            kept.append(place)
            most -= size
    return kept


def link_or_copy(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Make `target` the same file as `source`, or a copy where the disk has no hard links."""
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copyfile(source, target)
