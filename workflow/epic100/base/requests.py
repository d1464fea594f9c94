"""In which order the resources of a job are settled; who comes later wins.

1. what its rule states; 2. the device: a rule that the config keeps on the CPU, or moves to a GPU,
takes another entry of the profile than its own; 3. that entry; 4. the number of the try, in
expressions with `attempt`; 5. the partition's longest wall time and cores; 6. the command line
(`--set-resources`). Snakemake does 1, 3 and 4, `settled` 2 and 6, the executor 5.
"""

from collections.abc import Mapping
from typing import Any

# This resource lists the keys that the command line states, joined by +.
STATED = "stated"
# An entry of a profile that ends so belongs to no rule.
NO_RULE = "_on_cpu"


def settled(
    profile: Mapping[str, Mapping[str, Any]],
    command_line: Mapping[str, Mapping[str, Any]],
    instead: Mapping[str, str],
) -> dict[str, dict[str, Any]]:
    """The resources by rule that replace those that the rules state.

    Args:
        profile: Of each rule, what the profile says.
        command_line: Of each rule, what the command line says.
        instead: The entry of the profile that a rule takes in place of its own, by rule.
    """
    resources: dict[str, dict[str, Any]] = {}
    for rule in {**profile, **command_line, **instead}:
        entry_name = instead.get(rule)
        entry = profile.get(entry_name or rule) or profile.get(rule, {})
        overrides = command_line.get(rule, {})
        resources[rule] = {
            **entry,
            **overrides,
            **({STATED: "+".join(overrides)} if overrides else {}),
        }
    return {rule: values for rule, values in resources.items() if not rule.endswith(NO_RULE)}
