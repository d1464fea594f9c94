"""The scan: every picture of every video decoded once, damage known to the frame."""

from epic100.scan.participant import WORKER, scan_participant

__all__ = ["WORKER", "scan_participant"]
