"""What people read at the end: the summary and the report."""
