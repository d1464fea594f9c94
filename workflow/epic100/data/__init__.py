"""The data: annotations, official lists, segments, clean lists, pairs, and their download."""
