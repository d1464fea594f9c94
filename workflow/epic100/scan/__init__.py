"""The scan: every picture of every video decoded once, damage known to the frame."""

from epic100.scan.participant import WORKER, ScanLimits, load_index, scan_participant

__all__ = ["WORKER", "ScanLimits", "load_index", "scan_participant"]
