"""Run the workflow on Slurm: a site's partitions, limits of jobs, and recovery from failures.

These modules call Slurm's commands; rules/run.smk calls the modules at the right moments.
"""
