"""A short report of how much of an archive is on disk, by split and participant."""

import os
from collections.abc import Collection, Iterator, Sequence

from epic100.video.sheet import SPLITS, Video


def on_disk_lines(
    videos: Sequence[Video], there: Collection[str], root: str | os.PathLike
) -> Iterator[str]:
    """Report which videos are on disk: one line per split, or one line if all or none are.

    Args:
        videos: All videos that the run needs.
        there: Ids of the videos that are on disk or will be.
        root: The folder that the config names.
    """
    known = sum(video.video_id in there for video in videos)
    if known == len(videos) or not known:
        count = f"all {known}" if known else f"none of the {len(videos)}"
        yield f"{root}: {count} videos of the sheet are there"
        return
    yield f"{root}: {known} of the {len(videos)} videos of the sheet are there"
    for split in SPLITS:
        own = [video for video in videos if video.split == split]
        if own:
            yield f"  {split}: {_by_participant(own, there)}"


def _by_participant(videos: Sequence[Video], there: Collection[str]) -> str:
    whole, some, none = [], [], []
    for participant in dict.fromkeys(video.participant_id for video in videos):
        own = [video.video_id in there for video in videos if video.participant_id == participant]
        if all(own):
            whole.append(participant)
        elif any(own):
            some.append(f"{sum(own)} of {len(own)} of {participant}")
        else:
            none.append(participant)
    parts = [f"all of {' '.join(whole)}"] if whole else []
    parts += some
    parts += [f"none of {' '.join(none)}"] if none else []
    known = sum(video.video_id in there for video in videos)
    return f"{known} of {len(videos)} ({', '.join(parts)})"
