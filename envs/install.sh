#!/bin/sh
# install.sh PYTHON [CUDA]: put the locked packages and this project into that Python's environment.
# Used by the Makefile (.venv), epic100.post-deploy.sh (conda) and apptainer.def, so all hold the same.
# CUDA 12 takes the torch for old GPUs and drivers; without the word, nvidia-smi decides.
set -eu
python=$1
root=$(cd "$(dirname "$0")/.." && pwd)
pip="$python -m pip --disable-pip-version-check install --no-deps"

case ${2:-$(sh "$root/envs/cuda.sh")} in
12) torch=requirements-torch-cuda12.lock ;;
13) torch=requirements-torch.lock ;;
*) echo "error: CUDA is '$2'; expected 12 or 13" >&2; exit 1 ;;
esac
$pip --require-hashes -r "$root/requirements.lock"
"$python" "$root/envs/install_torch.py" "$root/$torch"
$pip --no-build-isolation -e "$root"
