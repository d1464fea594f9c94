#!/bin/sh
# Run by Snakemake inside the new conda environment. The workflow sets EPIC100_ROOT, since this
# file is copied beside the environment before it runs. EPIC100_CUDA=12: for old GPUs and drivers.
# lock sha256: 1f9d629d26cc105cd8ad4b8a098319510fc8e0aeb4a231db4b6d52b618a07347
set -eu
sh "$EPIC100_ROOT/envs/install.sh" python ${EPIC100_CUDA:-}
