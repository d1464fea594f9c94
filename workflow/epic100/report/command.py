"""`epic100 publish`: a model in a folder for a hub."""

import argparse

from epic100.report.publish import publish


def run_publish(options: argparse.Namespace) -> int:
    """`epic100 publish`: write the folder; return 0."""
    publish(options.model, options.out)
    print(f"{options.out}: read its README.md, then upload the folder")
    return 0
