"""The scan: decode every picture of every video once and locate damage to the frame."""

from epic100.scan.participant import scan_participant

__all__ = ["scan_participant"]
