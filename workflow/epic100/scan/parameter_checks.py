"""Check a video's parameter sets, by themselves and by those of the participant's other videos.

With one corrupted bit in a parameter set, a decoder gives a wrong picture for every frame, without
an error. A camera writes the same sets into all files with the same settings. So a set that differs
by one bit from a set that several other files share is corrupted. Larger differences are settings.
A set of one file alone is corrupted if it does not end where it must, or has reserved values.
"""

import contextlib
from collections.abc import Mapping

from epic100.scan.h264 import parse_pps, parse_sps
from epic100.video.index import VideoIndex
from epic100.video.nal import PPS, SPS, SetRecord

_LEVELS = 12  # bytes of an avcC record: its header, and the start of a set, which repeats it
WITNESSES = 2  # number of other files that must share a set
SPOILT = "its parameter sets are spoilt"


def spoilt_sets(indexes: Mapping[str, VideoIndex]) -> dict[str, str]:
    """Find videos with corrupted parameter sets.

    Args:
        indexes: By video_id, of one participant.

    Returns:
        The reason as text, by video_id.
    """
    own = {
        video: (index.stream.codec, index.sets[0])
        for video, index in indexes.items()
        if index.sets[0]
    }
    kinds = list(own.values())
    shared = {kind for kind in kinds if kinds.count(kind) >= WITNESSES}
    found = {}
    for video, (codec, data) in own.items():
        if (codec, data) in shared:
            continue
        if codec == "h264" and _ends_amiss(data):
            found[video] = "one does not end where it must, or has reserved values"
        for other_codec, other in shared:
            if codec == other_codec and _one_bit_apart(codec, data, other):
                count = kinds.count((other_codec, other))
                found[video] = f"1 bit differs from those of {count} other videos"
    return found


def _ends_amiss(data: bytes) -> bool:
    """Whether a set of an avcC record does not end where it must."""
    record = SetRecord.of("h264", data)
    if not (record.head and record.is_whole):  # another kind of record
        return False
    try:
        streams = [parse_sps(sps) for sps in record.of_kind(SPS)]
        pictures = [parse_pps(pps, streams[0].chroma)[1] for pps in record.of_kind(PPS)]
    except (ValueError, IndexError):  # a set goes on beyond its end, or there is none
        return True
    wholes = [each.is_whole for each in streams] + [each.is_whole for each in pictures]
    return not all(wholes)


def _one_bit_apart(codec: str, one: bytes, other: bytes) -> bool:
    """Whether two records differ by one bit that is not a common setting.

    Common settings are the entropy coding of H.264 (a wrong one makes decoding fail) and profile
    and level (which do not change pictures).
    """
    difference = int.from_bytes(one) ^ int.from_bytes(other)
    if len(one) != len(other) or difference.bit_count() != 1:
        return False
    if len(one) - 1 - (difference.bit_length() - 1) // 8 < _LEVELS:
        return False
    pairs = zip(*(SetRecord.of(codec, data).of_kind(PPS) for data in (one, other)), strict=False)
    with contextlib.suppress(ValueError):  # a corrupted one
        return all(parse_pps(a)[1].arithmetic == parse_pps(b)[1].arithmetic for a, b in pairs)
    return True
