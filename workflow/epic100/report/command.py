"""`epic100 publish` and `epic100 report-back`."""

import argparse

from epic100.report.publish import publish, write_report_back


def run_publish(options: argparse.Namespace) -> int:
    """`epic100 publish`: write the folder; return 0."""
    publish(options.model, options.out)
    print(f"{options.out}: read its README.md, then upload the folder")
    return 0


def run_report_back(options: argparse.Namespace) -> int:
    """`epic100 report-back`: write the report; return 0."""
    write_report_back(options.results, options.out)
    print(f"{options.out}: read it, then attach it to an issue")
    return 0
