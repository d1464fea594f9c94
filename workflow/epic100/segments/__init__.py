"""Annotated segments: from the official CSVs to the clean lists and the pair table."""
