#!/bin/sh
# Run by Snakemake inside the new conda environment. The workflow sets EPIC100_ROOT, since this
# file is copied beside the environment before it runs. EPIC100_CUDA=12: for old GPUs and drivers.
# lock sha256: 15b344afcae93a98b12e9c60cc552d8c363cc533bc2f4d69e87842a7f0e0dcb7
set -eu
sh "$EPIC100_ROOT/envs/install.sh" python ${EPIC100_CUDA:-}
