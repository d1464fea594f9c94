"""Features of complete videos at a stride."""
