"""What a run reads: every file of its inputs, read and checked once, before the first job."""
