"""The scan: decode every frame of every video once, and find the damaged ones."""

from epic100.scan.participant import scan_participant

__all__ = ["scan_participant"]
