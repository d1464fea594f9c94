"""Start a wrapper in its own process: its folder holds no module that could hide another."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from epic100.slurm.wrappers import main

sys.exit(main(Path(sys.argv[1]).name, sys.argv[2:]))
