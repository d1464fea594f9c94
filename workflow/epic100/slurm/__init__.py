"""Running the workflow on Slurm: what a site has, what a job may ask, and what to do when it fails.

The modules here know Slurm's commands; rules/slurm.smk calls them at the right moments.
"""
