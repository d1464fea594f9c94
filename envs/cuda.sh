#!/bin/sh
# Print the CUDA generation, 12 or 13, whose torch runs on the GPUs that nvidia-smi shows. PyPI's torch
# 2.13 (CUDA 13.0) has kernels from sm_75 on and wants driver 580 or newer; older ones get torch 2.7.1.
gpus=$(nvidia-smi --query-gpu=compute_cap,driver_version --format=csv,noheader,nounits 2>/dev/null) || gpus=
echo "$gpus" | awk -F'[,.] *' '
  NF >= 3 && ($1 * 10 + $2 < 75 || $3 < 580) { old = 1 }
  END { print old ? 12 : 13 }'
