"""How much of each participant the two cleaning policies keep."""

from collections.abc import Mapping, Sequence

import pandas as pd

COLUMNS = ("participant_id", "segments", "kept_by_segment", "kept_by_video")


def salvage_table(listed: Sequence[str], kept: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Segments of each participant, all splits together: annotated, and kept by each policy.

    `listed` and the values of `kept` (by policy name) are video paths, `P22/P22_01.MP4`, one a
    segment. Columns as `COLUMNS`, a row a participant, by name.
    """
    counts = {"segments": _by_participant(listed)}
    counts |= {f"kept_by_{policy}": _by_participant(paths) for policy, paths in kept.items()}
    table = pd.DataFrame(counts).fillna(0).astype(int)
    return table.rename_axis("participant_id").reset_index()[list(COLUMNS)]


def salvage_lines(table: pd.DataFrame) -> list[str]:
    """The table in words, for participants that lost something under either policy."""
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
