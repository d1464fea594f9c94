"""Read and check every input file of a run once, before the first job."""
