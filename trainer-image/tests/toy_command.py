"""
What rondo-run runs in its tests: a program that knows files only, `python toy_command.py [FAULT]`, and how it goes wrong.
"""

import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

FAULT = sys.argv[1] if len(sys.argv) > 1 else ""
IN, OUT = Path(os.environ["RONDO_IN"]), Path(os.environ["RONDO_OUT"])
WEIGHTS = "adapter_model.safetensors"


def main() -> int:
    task = json.loads((IN / "task.json").read_text())
    if FAULT == "shows its environment":
        known = {name: value for name, value in os.environ.items() if name.startswith("RONDO_")}
        print(json.dumps({"environment": known, "stdin": sys.stdin.read()}), flush=True)
    if FAULT in ("waits", "ignores SIGTERM", "ends well"):
        wait()
    if FAULT == "kills itself":
        os.kill(os.getpid(), signal.SIGKILL)
    if FAULT.isdecimal():
        return int(FAULT)
    if task["kind"] != "evaluate":
        (OUT / "adapter" / WEIGHTS).write_bytes(adapter(task))
    write_result(task["kind"])
    return 0


def wait() -> None:
    """A child of its own goes on if nobody ends the whole group: its heartbeat is a file that grows."""
    beat = "import sys, time\nwhile True:\n    open(sys.argv[1], 'a').write('x')\n    time.sleep(0.05)"
    subprocess.Popen([sys.executable, "-c", f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{beat}", OUT / "heartbeat"])
    is_over = []
    if FAULT != "waits":
        signal.signal(signal.SIGTERM, lambda *_: is_over.append(FAULT == "ends well"))
    (OUT / "progress.jsonl").write_text('{"step": 1, "steps": 3}\n')
    while not any(is_over):
        time.sleep(0.05)


def adapter(task: dict) -> bytes:
    """The parent's bytes with the last value changed; in an initialise task, one pair of the planned rank."""
    if task["kind"] == "initialise":
        return fresh(task["adapter"]["rank"])
    parent = (IN / "adapter" / WEIGHTS).read_bytes()
    changed = parent[:-4] + struct.pack("<f", float("inf") if FAULT == "not finite" else 0.25)
    if FAULT == "other name":
        return changed.replace(b"lora_A", b"lora_C", 1)
    if FAULT == "other type":
        return changed.replace(b'"F32"', b'"I32"')
    return changed[:-4] if FAULT == "cut short" else changed


def fresh(rank: int) -> bytes:
    entries, data = {}, b""
    for half, shape in (("A", [rank, 4]), ("B", [4, rank])):
        entries[f"base_model.model.q_proj.lora_{half}.weight"] = {
            "dtype": "F16",
            "shape": shape,
            "data_offsets": [len(data), len(data) + 8 * rank],
        }
        data += bytes(8 * rank)
    header = json.dumps(entries).encode()
    return struct.pack("<Q", len(header)) + header + data


def write_result(kind: str) -> None:
    held_out = {"tokens": 10, "parentLoss": 3.0, "loss": 2.5}
    usual = {"train": {"examples": 5, "steps": 3, "tokens": 60, "trainLoss": 2.75, "heldOut": held_out, "records": ["Mrs. Miller"]}}
    result = usual.get(kind, {"examples": 5, "heldOut": held_out})
    if FAULT.startswith("{"):
        result.update(json.loads(FAULT))
    if FAULT != "no result" and kind != "initialise":
        (OUT / "result.json").write_text("{" if FAULT == "half a result" else json.dumps(result))


if __name__ == "__main__":
    sys.exit(main())
