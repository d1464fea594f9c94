"""`python -m epic100.submission check FILE --annotations CSV`: what is wrong with a submission."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from epic100.errors import EpicError
from epic100.submission.check import HINT, check, check_zip
from epic100.submission.files import existing_file, expected_ids, read_pickle, read_pt


def main(arguments: Sequence[str] | None = None) -> int:
    """`check FILE --annotations CSV`: one line a problem on stdout, 1 if there is any, else 0."""
    parser = argparse.ArgumentParser(prog="python -m epic100.submission")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("check", help="say what is wrong with a submission")
    command.add_argument("file", type=Path, metavar="FILE", help=".pt or .zip")
    command.add_argument("--annotations", type=Path, required=True, metavar="CSV")
    command.add_argument("--num-verbs", type=int, default=97)
    command.add_argument("--num-nouns", type=int, default=300)
    command.add_argument(
        "--allow-pickle",
        action="store_true",
        help="also read .pkl files and NumPy arrays; runs code of the file, so trust it first",
    )
    options = parser.parse_args(arguments)
    try:
        lines = _check_file(options)
    except EpicError as error:
        lines = [" ".join(str(error).split())]
    print(*lines, sep="\n", end="\n" if lines else "")
    count = sum(not line.startswith(HINT) for line in lines)
    verdict = f"{count} problem{'s' * (count != 1)}" if count else "ok"
    print(f"{options.file}: {verdict}", file=sys.stderr)
    return 1 if count else 0


def _check_file(options: argparse.Namespace) -> list[str]:
    path, suffix = options.file, options.file.suffix.lower()
    wanted = (expected_ids(options.annotations), options.num_verbs, options.num_nouns)
    if suffix == ".zip":
        return check_zip(existing_file(path), *wanted)
    if suffix == ".pkl" and not options.allow_pickle:
        raise EpicError(
            f"{path}: loading a .pkl runs its code; with --allow-pickle if you trust it"
        )
    if suffix not in (".pt", ".pkl"):
        raise EpicError(f"{path}: unknown kind of file {suffix!r}, expected .pt or .zip")
    entries = read_pickle(path) if options.allow_pickle else read_pt(path)
    return check(entries, *wanted)


if __name__ == "__main__":
    sys.exit(main())
