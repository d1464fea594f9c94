"""What several test files use: real videos, small labs, servers with faults, Slurm clusters."""
