"""What GPU libraries need from this machine: a compiler for Triton, and allocator settings that vLLM reads.

Triton 3.7.1 compiles its launchers at run time, with a C compiler and Python's headers (triton/runtime/build.py). An
image with only the driver, or a Python without its -dev package, passes every import and fails at the first compiled
kernel, after the models have loaded. Standard library only.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path


def missing() -> str | None:
    """What Triton lacks here and how to get it, in one line; None if it can compile. Searches where Triton searches."""
    compiler = os.environ.get("CC")
    if compiler is not None and shutil.which(compiler) is None:
        return f"Triton compiles with CC={compiler}, which is not there: unset CC, or install it"
    if compiler is None and not (shutil.which("gcc") or shutil.which("clang")):
        return "Triton needs a C compiler at run time: install gcc, or set CC"
    scheme = sysconfig.get_default_scheme()  # Debian's posix_local has no headers
    folder = sysconfig.get_paths("posix_prefix" if scheme == "posix_local" else scheme)["include"]
    if not (Path(folder) / "Python.h").is_file():
        return f"Triton needs Python's headers at run time: {folder}/Python.h is missing (python3-dev, python3-devel)"
    return None


def hidden_segments() -> str | None:
    """Why vLLM's sleep mode would free no memory, in one line; None if it would free it.

    vLLM 0.27.1 turns expandable segments off around its pool only if PYTORCH_CUDA_ALLOC_CONF asks for them
    (device_allocator/cumem.py). torch 2.13 reads PYTORCH_ALLOC_CONF too, if the other is not set.
    """
    name = "PYTORCH_ALLOC_CONF"
    value = os.environ.get(name, "")
    if "expandable_segments:True" not in value.replace(" ", "") or "PYTORCH_CUDA_ALLOC_CONF" in os.environ:
        return None
    problem = f"{name}={value}: vLLM does not see it under this name, and its sleep mode would free no memory"
    return f"{problem}: unset it, or set PYTORCH_CUDA_ALLOC_CONF instead"
