"""A client that plays its training: it takes the given seconds and returns what came in plus noise."""

import argparse
import os
import time

import numpy as np
import nvflare.client as flare
from nvflare.app_common.abstract.fl_model import FLModel

parser = argparse.ArgumentParser()
for name in ("fault", "marks", "seconds"):
    parser.add_argument(f"--{name}")
parser.add_argument("--fault-round", type=int)
told = parser.parse_args()

flare.init()
site = int(flare.get_site_name().removeprefix("site-"))
random = np.random.default_rng()
while flare.is_running():
    model = flare.receive()
    if model is None:
        break
    is_fault_round = model.current_round + 1 == told.fault_round  # FLARE counts from 0
    noise = np.float32(1e-3)
    if is_fault_round:
        begun = os.path.join(told.marks, f"training-{site}")
        is_again = os.path.exists(begun)
        open(begun, "w").close()
        if site == 1 and told.fault.startswith("killedBefore") and not is_again:
            time.sleep(600)  # it is killed here
        time.sleep(float(told.seconds.split(",")[site - 1]))
        if site == 1 and told.fault == "nan":
            noise = np.float32("nan")
    else:
        time.sleep(1)
    params = {name: values + random.standard_normal(values.shape, dtype=np.float32) * noise for name, values in model.params.items()}
    if is_fault_round:
        open(os.path.join(told.marks, f"trained-{site}"), "w").close()
    flare.send(FLModel(params=params, metrics={"accuracy": 1.0}, meta={"NUM_STEPS_CURRENT_ROUND": 1}))
