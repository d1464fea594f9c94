"""From scores over pairs to the official figures: folding, completion, metrics, diagnostics."""
