"""One video: its row in the sheet, its exact frames, and the state that a scan found."""
