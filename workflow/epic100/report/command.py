"""`epic100 publish`: a model in a folder for a hub."""

import argparse

from epic100.report.publish import publish


def run_publish(options: argparse.Namespace) -> int:
    """Write a model into a folder for a hub (`epic100 publish`), and return 0."""
    publish(options.model, options.out)
    print(f"{options.out}: read its README.md, then upload the folder")
    return 0
