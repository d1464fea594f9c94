"""A job of a run: the resources that it asks for, and whether it is the newest for its target.

The resources are settled in this order; who comes later wins: 1. what its rule states; 2. the
device: a rule that the config keeps on the CPU, or moves to a GPU, takes another entry of the
profile than its own; 3. that entry; 4. the number of the try, in expressions with `attempt`; 5. the
partition's longest wall time and cores; 6. the command line (`--set-resources`). Snakemake does 1,
3 and 4, `settled` 2 and 6, the executor 5.

Of several jobs for one target, an older one ends before it touches a file.
"""

import hashlib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from epic100.base.atomic import FENCE, require_newest
from epic100.base.errors import EpicError
from epic100.base.scheduler import here

# This resource lists the resources that the command line states, as in `mem_mb+runtime`.
STATED = "stated"
# An entry of a profile with this end belongs to no rule.
NO_RULE = "_on_cpu"
# The folder of the files that `newest_file` names.
NEWEST = Path(".snakemake/epic100-newest")


def settled(
    profile: Mapping[str, Mapping[str, Any]],
    command_line: Mapping[str, Mapping[str, Any]],
    instead: Mapping[str, str],
) -> dict[str, dict[str, Any]]:
    """Compute for each rule the resources that replace those in its definition.

    Args:
        profile: The profile's resources by rule.
        command_line: The command line's resources by rule.
        instead: By rule, the name of another entry of the profile that the rule takes in place of
            the entry with its own name.

    Returns:
        Resources by rule. `STATED` lists the keys that come from the command line.
    """
    resources: dict[str, dict[str, Any]] = {}
    for rule in {**profile, **command_line, **instead}:
        # A profile without the other entry falls back to the rule's own entry.
        entry = profile.get(instead.get(rule, rule)) or profile.get(rule, {})
        overrides = command_line.get(rule, {})
        resources[rule] = {
            **entry,
            **overrides,
            **({STATED: "+".join(overrides)} if overrides else {}),
        }
    # An entry such as `train_on_cpu` is an alternative for a rule, and no rule itself.
    return {rule: values for rule, values in resources.items() if not rule.endswith(NO_RULE)}


def newest_file(words: Sequence[str]) -> Path:
    """Return the path of the file that holds the id of the newest job for the same target.

    Args:
        words: The command of a job: a call of Snakemake with `--target-jobs`, and possibly a shell
            around it.
    """
    # Quotes of a shell may be around the same target in one command and not in another.
    text = re.sub(r"[\"'\\]", "", " ".join(words))
    target = re.search(r"--target-jobs (.*?)(?: --|$)", text)
    return NEWEST / hashlib.sha256((target[1] if target else text).encode()).hexdigest()[:16]


def end_if_not_newest(words: Sequence[str] = sys.argv) -> None:
    """End this cluster job if a later job was submitted for the same target.

    The job ends now if there is a later one already, else when it next writes a file (`FENCE`).

    Args:
        words: The command of this process.
    """
    # The job is named `id@cluster`.
    job_id, _, _ = here().granted().job.partition("@")
    if job_id:
        # From now on, `require_newest` and each atomic write compare the id with that in the file.
        os.environ[FENCE] = f"{newest_file(words).absolute()}={job_id}"
    try:
        require_newest()
    except EpicError as error:
        sys.exit(str(error))
