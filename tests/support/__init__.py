"""What several test files use: real videos, small labs, failing servers, Slurm clusters."""
