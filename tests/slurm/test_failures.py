"""Messages that sbatch has printed, and the parts of the plugin that the executor uses."""

import re
from pathlib import Path

import pytest
import snakemake_executor_plugin_slurm as plugin

from epic100.slurm.executor import OF_MACHINES, PARTS_OF_PLUGIN
from epic100.slurm.requests import is_never_taken
from support.checkout import ROOT

FAILED = "sbatch: error: Batch job submission failed:"
# After each of these messages, a later call of sbatch succeeded; each once ended a run.
PASSING = (
    f"{FAILED} Transport endpoint is not connected",
    f"{FAILED} Unexpected message received",
    f"{FAILED} Slurm backup controller in standby mode",
    f"{FAILED} Slurm controller paging the job",
    f"{FAILED} I/O error writing script/environment to file",
    f"{FAILED} Requested operation is presently disabled",
    f"{FAILED} Insufficient resources to process",
    f"{FAILED} Header lengths are longer than data received",
    f"{FAILED} Invalid job credential",
    f"{FAILED} Unspecified error",
    f"{FAILED} Job/step already completing or completed",
    f"{FAILED} No error",
    "sbatch: error: slurm_receive_msg: Zero Bytes were transmitted or received",
    f"sbatch: error: AssocMaxSubmitJobLimit\n{FAILED} Job "
    "violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
    f"sbatch: error: AssocGrpSubmitJobsLimit\n{FAILED} Job violates accounting/QOS policy",
    "sbatch: no answer in 120 s",
    "sbatch: Fehler: Netzwerk ist nicht erreichbar",
    "",
)
# Slurm never grants a request after one of these messages.
FINAL = (
    f"{FAILED} Invalid account or account/partition combination specified",
    f"{FAILED} Invalid qos specification",
    f"{FAILED} Invalid feature specification",
    f"{FAILED} Requested node configuration is not available",
    f"{FAILED} Requested time limit is invalid (missing or exceeds some limit)",
    f"{FAILED} Node count specification invalid",
    f"{FAILED} Invalid node name specified",
    f"{FAILED} invalid partition specified: gpu",
    f"{FAILED} Invalid generic resource (gres) specification",
    f"{FAILED} More processors requested than permitted",
)


@pytest.mark.parametrize("message", PASSING)
def test_a_submission_is_tried_again_after_these_messages(message):
    assert not is_never_taken(message)


@pytest.mark.parametrize("message", FINAL)
def test_these_messages_end_the_submission(message):
    assert is_never_taken(message)


def test_the_page_has_every_state_of_machines():
    page = (ROOT / "docs/vsc.md").read_text()
    (row,) = [line for line in page.splitlines() if "counts as no try" in line]
    assert set(re.findall(r"`([A-Z_]+)`", row)) == OF_MACHINES


def test_the_plugin_has_the_undocumented_parts_used():
    assert [name for name in PARTS_OF_PLUGIN if name not in source_of_plugin()] == []
    ours = (ROOT / "workflow/epic100/slurm/executor.py").read_text()
    private = set(re.findall(r"self\.(_[a-z]\w*)", source_of_plugin())) | {"_user_kill"}
    assert private & set(re.findall(r"\b(_[a-z]\w*)", ours)) == set(PARTS_OF_PLUGIN)


def source_of_plugin():
    """The text of the module with the plugin's executor."""
    return Path(plugin.__file__).read_text()
