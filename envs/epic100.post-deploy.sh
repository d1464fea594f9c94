#!/bin/sh
# Run by Snakemake inside the new conda environment. The workflow sets EPIC100_ROOT, since this
# file is copied beside the environment before it runs.
# lock sha256: 0816f526cc72e32aa61209e06f2b963447ccc48839876045a7c7de44137437e1
set -eu
sh "$EPIC100_ROOT/envs/install.sh" python
