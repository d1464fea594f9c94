#!/bin/sh
# Run by Snakemake inside the new conda environment. The workflow sets EPIC100_ROOT, since this
# file is copied beside the environment before it runs. EPIC100_CUDA=12: for old GPUs and drivers.
# lock sha256: f53db5b3bb2295bf1b99351aef883d8b30c74d449e2e478ebd7eaa45080f4ab7
set -eu
sh "$EPIC100_ROOT/envs/install.sh" python ${EPIC100_CUDA:-}
