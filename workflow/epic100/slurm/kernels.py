"""Whether this environment's torch has kernels for a GPU, known before a job waits for one."""

import re
import subprocess
import sys

# Answered by CUDA builds without a GPU; `torch.cuda.get_arch_list` answers on a GPU alone.
_ASK = "import torch; print(torch.__version__, torch._C._cuda_getArchFlags() or '')"


def kernels_of_torch() -> tuple[str, list[str]]:
    """torch's version, and the architectures that it has kernels for (`sm_80`, `compute_90`).

    Returns:
        ("", []) where this Python has no CUDA build of torch. Such a job is no case for the site's
        facts: it stops by itself, at once.
    """
    done = subprocess.run([sys.executable, "-P", "-c", _ASK], capture_output=True, text=True)
    version, *kernels = done.stdout.split() or [""]
    return (version, kernels) if done.returncode == 0 and kernels else ("", [])


def serve(kernels: list[str], sm: int) -> bool:
    """Whether a GPU of compute capability `sm` (70 is 7.0) runs one of these kernels.

    CUDA C++ Programming Guide, "Compute Capabilities": machine code (`sm_`) runs on its own major
    version from its own minor version on, PTX (`compute_`) on everything newer. The letter of
    `sm_90a` binds a kernel to exactly that one.
    """
    for kind, number, letter in re.findall(r"(sm|compute)_(\d+)([a-z]?)", " ".join(kernels)):
        built = int(number)
        if built == sm or (not letter and kind == "compute" and built <= sm):
            return True
        if not letter and kind == "sm" and built // 10 == sm // 10 and built <= sm:
            return True
    return False
