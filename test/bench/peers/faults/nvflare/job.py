"""
Submits FLARE's own FedAvg recipe and says one JSON line per change: job.py KIT FOLDER SITES MINIMUM ROUNDS CLIENT-ARGUMENTS.
The recipe takes one number for "how many to ask" and "how few are enough"; here all are asked, and the job's own min_clients is lowered.
"""

import glob
import json
import os
import sys
import time

import numpy as np
from nvflare.app_common.np.recipes.fedavg import NumpyFedAvgRecipe
from nvflare.fuel.flare_api.flare_api import new_secure_session

kit, folder = sys.argv[1:3]
sites, minimum, rounds = map(int, sys.argv[3:6])


def say(**what):
    print(json.dumps({"at": time.time(), **what}), flush=True)


def session():
    while True:
        try:
            return new_secure_session(username="admin@nvidia.com", startup_kit_location=kit, timeout=10)
        except Exception:  # the server is starting, or away
            time.sleep(1)


def connected(session):
    try:
        return len(session.get_system_info().client_info)
    except Exception:  # a busy machine: it answers later
        return 0


flare = session()
while connected(flare) < sites:
    time.sleep(0.5)
initial = os.path.join(folder, "initial.npy")
np.save(initial, np.random.default_rng().standard_normal((256, 256), dtype=np.float32))
recipe = NumpyFedAvgRecipe(
    name="rondo_faults",
    initial_ckpt=initial,
    min_clients=sites,
    num_rounds=rounds,
    train_script=os.path.join(os.path.dirname(os.path.abspath(__file__)), "client.py"),
    train_args=sys.argv[6],
)
exported = os.path.join(folder, "job")
recipe.export(exported)
inner = os.path.join(exported, "rondo_faults")
inner = inner if os.path.isdir(inner) else exported
with open(os.path.join(inner, "meta.json")) as file:
    meta = json.load(file)
meta["min_clients"] = minimum
with open(os.path.join(inner, "meta.json"), "w") as file:
    json.dump(meta, file)
job = flare.submit_job(inner)
say(job=job)
before = None
while True:
    try:
        status = str(flare.get_job_meta(job).get("status"))
    except Exception as error:
        status = f"(no answer: {type(error).__name__})"
        flare = session()
    if status != before:
        say(status=status)
        before = status
    if status.startswith("FINISHED"):
        break
    time.sleep(0.5)
try:
    result = flare.download_job_result(job)
    for file in glob.glob(f"{result}/**/*.npy", recursive=True):
        say(model=os.path.basename(file), nonFinite=int((~np.isfinite(np.load(file))).sum()))
except Exception as error:
    say(result=f"{type(error).__name__}: {error}"[:200])
os._exit(0)
