"""Add the workflow to the wheel, as `epic100/shipped`: a build hook of Hatchling.

A clone keeps these files where Snakemake's users look for them; `epic100.base.shipped` finds both.
"""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SHIPPED = (
    "Snakefile",
    "config",
    "envs",
    "profiles",
    "requirements.lock",
    "requirements-hf.lock",
    "requirements-torch.lock",
    "requirements-torch-cuda12.lock",
    "rules",
    "workflow/Snakefile",
    "workflow/scripts",
)


class Ship(BuildHookInterface):
    """Adds the workflow's files to every wheel but an editable one, which points at the clone."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Be called by Hatchling before it collects files; `version` is the kind of wheel."""
        if version != "editable":
            build_data["force_include"].update(
                {name: f"epic100/shipped/{name}" for name in SHIPPED}
            )
