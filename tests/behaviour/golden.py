"""Compare results of the workflow with the recorded ones in golden.json. No test is here.

After a change that is meant to give other results, renew the file and look at its difference:
    EPIC100_RENEW_GOLDEN=1 python -m pytest tests/behaviour
"""

import json
import os
from pathlib import Path

from support.checkout import lacks

GOLDEN = Path(__file__).with_name("golden.json")
RENEW = "EPIC100_RENEW_GOLDEN"


def require_golden(name: str, found: dict, made_of: str) -> None:
    """Require that results equal the recorded ones, or record them if `RENEW` is set.

    Another build of an encoder may make other inputs. Then the test is skipped.

    Args:
        name: The key of these results in golden.json.
        found: The results now.
        made_of: Digest of the inputs of these results.
    """
    records = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get(RENEW):
        records[name] = {"made_of": made_of, **found}
        GOLDEN.write_text(json.dumps(records, indent=1, sort_keys=True) + "\n")
        return
    expected = dict(records[name])
    if expected.pop("made_of") != made_of:
        lacks(f"this machine's encoder makes other inputs than those of {GOLDEN.name}")
    assert found == expected
