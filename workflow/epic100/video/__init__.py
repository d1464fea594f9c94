"""One video: its row in the sheet, its exact frames, the state that a scan found."""
