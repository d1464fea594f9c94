"""Compare results of the workflow with the recorded ones in golden.json. No test is here.

After a change that is meant to give other results, renew the file and look at its difference:
    EPIC100_RENEW_GOLDEN=1 python -m pytest tests/behaviour
"""

import json
import os
from pathlib import Path

import pytest

from support.checkout import rows_of

GOLDEN = Path(__file__).with_name("golden.json")


def require_golden(name: str, found: dict, made_of: str) -> None:
    """Require that results equal the recorded ones, or record them if EPIC100_RENEW_GOLDEN is set.

    Another machine may make other inputs: its encoder, or the rounding of its numbers. It has a
    separate record, or none yet; then the test is skipped.

    Args:
        name: The key of these results in golden.json.
        found: The results now.
        made_of: Digest of the inputs of these results.
    """
    records = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("EPIC100_RENEW_GOLDEN"):
        records.setdefault(name, {})[made_of] = found
        GOLDEN.write_text(json.dumps(records, indent=1, sort_keys=True) + "\n")
        return
    if made_of not in records[name]:
        pytest.skip(f"no record in {GOLDEN.name} is of the inputs that this machine makes")
    assert found == records[name][made_of]


def states(results: Path) -> dict[str, dict[str, str]]:
    """Read the rows of all scan tables by video id."""
    return {row["video_id"]: row for path in results.glob("scan/*.tsv") for row in rows_of(path)}
