"""Find Snakemake's options while a Snakefile is being read.

Snakemake passes them on only later, so they are taken from its stack frame. sys.argv is not used,
because it belongs to another program if that program calls Snakemake.
"""

import sys
from argparse import Namespace

# Options of calls that run no job; such calls must neither wait for jobs nor cancel any.
LOOKS = [
    "dryrun",
    "touch",
    "lint",
    "list_rules",
    "list_target_rules",
    "print_compilation",
    "dag",
    "rulegraph",
    "filegraph",
    "d3dag",
    "unlock",
    "cleanup_metadata",
    "cleanup_shadow",
    "conda_cleanup_envs",
    "conda_create_envs_only",
    "archive",
    "list_conda_envs",
    "list_changes",
    "list_input_changes",
    "list_params_changes",
    "list_untracked",
    "summary",
    "detailed_summary",
    "containerize",
    "container_cleanup_images",
    "generate_unit_tests",
    "delete_all_output",
    "delete_temp_output",
    "report",
]


def options() -> Namespace:
    """Snakemake's options; empty if its API was called without them."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_name == "args_to_api":
            found = frame.f_locals.get("args")
            return found if isinstance(found, Namespace) else Namespace()
    return Namespace()


def only_looks(given: Namespace) -> bool:
    """Whether a call with these options runs no jobs."""
    return any(getattr(given, name, None) for name in LOOKS)
