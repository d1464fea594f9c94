"""Parameter sets of a video against those of the participant's other videos, and its container.

One spoilt bit in a parameter set and a decoder gives another picture for each of a file, without an
error. A camera writes the same sets into all files of one setting; so a set that differs by one
bit from one that several other files share was spoilt. What else differs, was set otherwise.
"""

from collections.abc import Mapping

from epic100.scan.h264 import is_arithmetic
from epic100.video.index import VideoIndex

_LEVELS = 12  # bytes of an avcC record: its head, and the first of a set, which repeats them
WITNESSES = 2  # other files that share a set
SPOILT = "its parameter sets are spoilt"


def spoilt_sets(indexes: Mapping[str, VideoIndex]) -> dict[str, str]:
    """Videos whose own parameter sets are spoilt, and why, in words.

    `indexes`: by video_id, of one participant.
    """
    own = {
        video: (index.table.stream.codec, index.table.sets[0])
        for video, index in indexes.items()
        if index.table is not None and index.table.sets[0]
    }
    kinds = list(own.values())
    shared = {kind for kind in kinds if kinds.count(kind) >= WITNESSES}
    found = {}
    for video, (codec, data) in own.items():
        if (codec, data) in shared:
            continue
        for other_codec, other in shared:
            if codec == other_codec and _one_bit_apart(data, other):
                count = kinds.count((other_codec, other))
                found[video] = f"1 bit differs from those of {count} other videos"
    return found


def _one_bit_apart(one: bytes, other: bytes) -> bool:
    """Whether two records differ by one bit that is no setting which is often another.

    Such are the kind of entropy coding of H.264, without which nothing decodes, and profile and
    level, which change no picture.
    """
    if len(one) != len(other):
        return False
    difference = int.from_bytes(one) ^ int.from_bytes(other)
    if difference.bit_count() != 1:
        return False
    place = len(one) - 1 - (difference.bit_length() - 1) // 8
    try:
        head = place < _LEVELS or is_arithmetic(one) != is_arithmetic(other)
    except ValueError:  # another coder's record, or a spoilt one
        head = place < _LEVELS
    return not head
