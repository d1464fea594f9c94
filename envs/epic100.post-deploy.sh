#!/bin/sh
# Run by Snakemake inside the new conda environment. The workflow sets EPIC100_ROOT, since this
# file is copied beside the environment before it runs. EPIC100_CUDA=12: for old GPUs and drivers.
# lock sha256: 1a4d81417d10d69b22241977be960db0be5ff853adf849940ad95d4f2dde3f0a
set -eu
sh "$EPIC100_ROOT/envs/install.sh" python ${EPIC100_CUDA:-}
