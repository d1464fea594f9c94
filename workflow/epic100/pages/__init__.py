"""Pages for people: the report, its figures, runs side by side, segments and films to browse."""
