"""From pair scores to the official metrics: folding, completion, metrics and diagnostics."""
