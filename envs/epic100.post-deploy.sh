#!/bin/sh
# Run by Snakemake inside the new conda environment. The workflow sets EPIC100_ROOT, since this
# file is copied beside the environment before it runs. EPIC100_CUDA=12: for old GPUs and drivers.
# lock sha256: 4c9bb6803dd85a25f34a592b18c2eb3d3abca7b55dd8ec1c4993b1cc3907db25
set -eu
sh "$EPIC100_ROOT/envs/install.sh" python ${EPIC100_CUDA:-}
