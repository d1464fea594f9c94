"""How many segments of each participant the two cleaning policies keep."""

from collections.abc import Mapping, Sequence

import pandas as pd

COLUMNS = ("participant_id", "segments", "kept_by_segment", "kept_by_video")


def salvage_table(listed: Sequence[str], kept: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Count each participant's segments over all splits: annotated, and kept by each policy.

    Args:
        listed: One video path (`P22/P22_01.MP4`) per annotated segment.
        kept: The same for the kept segments, by policy name.

    Returns:
        One row per participant, sorted by name, with the columns `COLUMNS`.
    """
    counts = {"segments": _by_participant(listed)}
    counts |= {f"kept_by_{policy}": _by_participant(paths) for policy, paths in kept.items()}
    table = pd.DataFrame(counts).fillna(0).astype(int)
    return table.rename_axis("participant_id").reset_index()[list(COLUMNS)]


def salvage_lines(table: pd.DataFrame) -> list[str]:
    """Describe, one line each, the participants that lose segments under policy `video`."""
    lines = []
    for row in table.to_dict("records"):
        if row["kept_by_video"] < row["segments"]:
            lines.append(
                f"{row['participant_id']}: {row['kept_by_segment']} of {row['segments']} segments "
                f"kept (policy segment); dropping whole videos would keep {row['kept_by_video']}"
            )
    return lines


def _by_participant(paths: Sequence[str]) -> pd.Series:
    return pd.Series([path.split("/")[-2] for path in paths], dtype=str).value_counts()
