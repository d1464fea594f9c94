"""The library behind the workflow: plain functions and classes, independent of Snakemake."""

import os

# Idle OpenMP threads sleep instead of spinning. On cores shared with other jobs (a laptop, CI, a
# node with its CPUs given away) spinning made a training step 5 to 18 times slower (measured with
# torch 2.13). Must be set before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
