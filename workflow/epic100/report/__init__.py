"""What people read at the end of a run: the summary, the model card and the report."""
