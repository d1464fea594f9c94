"""`python -m epic100`: the same as the command `epic100`."""

import sys

from epic100.base.errors import import_error

if __name__ == "__main__":
    try:
        from epic100.cli.program import main

        code: int | str = main()
    except ImportError as error:  # The program itself needs packages.
        code = f"error: {import_error(error)}"
    sys.exit(code)
