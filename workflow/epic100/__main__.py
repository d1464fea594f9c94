"""`python -m epic100`: the same as the command `epic100`."""

import sys

from epic100.cli.program import main

if __name__ == "__main__":
    sys.exit(main())
