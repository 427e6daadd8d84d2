"""Submits FLARE's own FedAvg recipe to a running system, and waits for it: job.py KIT FOLDER ROUNDS CLIENTS ROWS COLUMNS."""

import os
import sys
import time

import numpy as np
from nvflare.app_common.np.recipes.fedavg import NumpyFedAvgRecipe
from nvflare.fuel.flare_api.flare_api import new_secure_session

kit, folder = sys.argv[1:3]
rounds, clients, rows, columns = map(int, sys.argv[3:7])


def session():
    for attempt in range(60):
        try:
            return new_secure_session(username="admin@nvidia.com", startup_kit_location=kit, timeout=10)
        except Exception:  # the server is starting
            if attempt == 59:
                raise
            time.sleep(0.5)


flare = session()
while len(flare.get_system_info().client_info) < clients:
    time.sleep(0.5)
initial = os.path.join(folder, "initial.npy")
np.save(initial, np.random.default_rng().standard_normal((rows, columns), dtype=np.float32))
recipe = NumpyFedAvgRecipe(
    name="rondo_bench",
    initial_ckpt=initial,
    min_clients=clients,
    num_rounds=rounds,
    train_script=os.path.join(os.path.dirname(os.path.abspath(__file__)), "client.py"),
)
exported = os.path.join(folder, "job")
recipe.export(exported)
inner = os.path.join(exported, "rondo_bench")
job = flare.submit_job(inner if os.path.isdir(inner) else exported)
print("JOB", job, flush=True)
while not str(flare.get_job_meta(job).get("status")).startswith("FINISHED"):
    time.sleep(0.3)
print("STATUS", flare.get_job_meta(job).get("status"), flush=True)
os._exit(0)
