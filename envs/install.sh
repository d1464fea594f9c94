#!/bin/sh
# install.sh PYTHON: put the locked packages and this project into that Python's environment.
# Used by the Makefile (.venv) and by epic100.post-deploy.sh (conda), so both hold the same.
set -eu
python=$1
root=$(cd "$(dirname "$0")/.." && pwd)
pip="$python -m pip --disable-pip-version-check install --no-deps"

$pip -r "$root/requirements.lock"
# PyPI's Linux torch is a CUDA build, whose libraries are packages of their own; a CPU build (from
# another index or a folder of wheels) needs none of them.
if "$python" - <<'EOF'
import importlib.util, pathlib, runpy, sys
version = pathlib.Path(importlib.util.find_spec("torch").origin).with_name("version.py")
sys.exit(runpy.run_path(str(version))["cuda"] is None)
EOF
then
    $pip -r "$root/requirements-cuda.lock"
fi
$pip --no-build-isolation -e "$root"
