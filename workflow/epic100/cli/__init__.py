"""The command `epic100`."""
