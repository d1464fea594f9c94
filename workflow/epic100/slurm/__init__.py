"""Run the workflow on Slurm: a site's partitions, checks of requests, and nights that end well.

`executor` is a subclass of snakemake-executor-plugin-slurm; the other modules serve it.
"""
