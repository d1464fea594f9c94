"""Start a wrapper in a process of its own, with this library and whatever Python runs Snakemake."""

import sys
from pathlib import Path

# In place of this folder, whose modules would hide others (`site`, `jobs`).
sys.path[0] = str(Path(__file__).resolve().parents[2])

from epic100.slurm.wrappers import main  # noqa: E402

sys.exit(main(Path(sys.argv[1]).name, sys.argv[2:]))
