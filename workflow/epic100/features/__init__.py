"""Features of whole videos at a stride."""
