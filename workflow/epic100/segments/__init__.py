"""Annotated segments, from the official CSVs to clean lists and the pair table."""
