"""What the product answers today, in golden.json beside this file. No test in here.

After a change that is meant to answer otherwise, renew it and look at its difference:
    EPIC100_RENEW_GOLDEN=1 python -m pytest tests/behaviour
"""

import json
import os
from pathlib import Path

from support.checkout import lacks

GOLDEN = Path(__file__).with_name("golden.json")
RENEW = "EPIC100_RENEW_GOLDEN"


def require_golden(name: str, found: dict, made_of: str) -> None:
    """Compare with what is written under `name`; `made_of`: digest of the inputs of `found`.

    Another build of an encoder may make other inputs; then there is nothing to compare with.
    """
    known = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get(RENEW):
        known[name] = {"made_of": made_of, **found}
        GOLDEN.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
        return
    expected = dict(known[name])
    if expected.pop("made_of") != made_of:
        lacks(f"this machine's encoder makes other inputs than those of {GOLDEN.name}")
    assert found == expected
