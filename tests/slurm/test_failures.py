"""What failures mean: the table of docs/vsc.md, and what sbatch has been seen to say."""

import re
import threading
from collections import Counter
from types import SimpleNamespace

import pytest

from epic100.slurm.executor import Executor
from epic100.slurm.failures import OF_MACHINES, Fault, of_end, of_request
from support.checkout import ROOT

PAGE = (ROOT / "docs/vsc.md").read_text()

# Each of these hiccups once ended a run.
HICCUPS = (
    "sbatch: error: Batch job submission failed: Transport endpoint is not connected",
    "sbatch: error: Batch job submission failed: Unexpected message received",
    "sbatch: error: Batch job submission failed: Slurm backup controller in standby mode",
    "sbatch: error: Batch job submission failed: Slurm controller paging the job",
    "sbatch: error: Batch job submission failed: I/O error writing script/environment to file",
    "sbatch: error: Batch job submission failed: Requested operation is presently disabled",
    "sbatch: error: Batch job submission failed: Insufficient resources to process",
    "sbatch: error: Batch job submission failed: Header lengths are longer than data received",
    "sbatch: error: Batch job submission failed: Invalid job credential",
    "sbatch: error: Batch job submission failed: Unspecified error",
    "sbatch: error: Batch job submission failed: Job/step already completing or completed",
    "sbatch: error: Batch job submission failed: No error",
    "sbatch: fatal: Could not establish a configuration source",
    "sbatch: error: slurm_receive_msg: Zero Bytes were transmitted or received",
    "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: Job "
    "violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
    "sbatch: no answer in 120 s",
    "sbatch: Fehler: Netzwerk ist nicht erreichbar",
    "",
)
NEVER = (
    "Invalid account or account/partition combination specified",
    "Invalid qos specification", "Invalid feature specification",
    "Requested node configuration is not available",
    "Requested time limit is invalid (missing or exceeds some limit)",
    "Node count specification invalid", "Invalid node name specified",
    "invalid partition specified: gpu", "Invalid generic resource (gres) specification",
    "More processors requested than permitted",
)  # fmt: skip


@pytest.mark.parametrize("words", HICCUPS)
def test_what_sbatch_says_of_anything_but_the_request_is_waited_out(words):
    assert of_request(words) == Fault.LATER


@pytest.mark.parametrize("words", NEVER)
def test_a_request_that_is_never_granted_ends_at_once(words):
    said = f"sbatch: error: Batch job submission failed: {words}"
    assert of_request(said) == Fault.NEVER


@pytest.mark.parametrize("state, reason, fault", [
    ("NODE_FAIL", "", Fault.MACHINES), ("PREEMPTED", "", Fault.MACHINES),
    ("BOOT_FAIL", "", Fault.MACHINES), ("FAILED", "", Fault.OWN), ("TIMEOUT", "", Fault.OWN),
    ("CANCELLED", "", Fault.OWN), ("DEADLINE", "", Fault.OWN), ("SOMETHING_NEW", "", Fault.OWN),
    ("OUT_OF_MEMORY", "", Fault.MEMORY),
    ("FAILED", "Detected 1 oom_kill event in StepId=7.0", Fault.MEMORY),
    ("FAILED", "Step 7.0 exceeded memory limit (9 > 8), being killed", Fault.MEMORY),
])  # fmt: skip
def test_an_end_is_the_job_s_own_or_that_of_machines(state, reason, fault):
    assert of_end(state, reason) == fault


def test_the_page_has_every_fault_and_every_state_of_machines():
    assert [f.name for f in Fault if f.value not in PAGE] == []
    (row,) = [line for line in PAGE.splitlines() if Fault.MACHINES.value in line]
    assert set(re.findall(r"`([A-Z_]+)`", row)) == set(OF_MACHINES)


def test_of_twenty_ends_by_the_machines_fault_one_counts_as_a_try():
    executor = Executor.__new__(Executor)
    executor.stopped, executor._again = threading.Event(), Counter()
    executor.workflow = SimpleNamespace(scheduler=SimpleNamespace(_user_kill=False))
    again = [executor._goes_again(7) for _ in range(60)]
    assert [number for number, goes in enumerate(again, 1) if not goes] == [20, 40, 60]
