"""Start a wrapper in its own process, with this library and the Python that runs Snakemake."""

import sys
from pathlib import Path

# Replaces this folder, because its modules would hide others (`site`, `jobs`).
sys.path[0] = str(Path(__file__).resolve().parents[2])

from epic100.slurm.wrappers import main  # noqa: E402

sys.exit(main(Path(sys.argv[1]).name, sys.argv[2:]))
