"""A client that plays its training: it takes the given seconds and returns what came in plus noise."""

import os
import time

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    config = message.content["config"]
    site = int(context.node_config["partition-id"]) + 1
    marks = str(config["marks"])
    is_fault_round = config["server-round"] == config["fault-round"]
    random = np.random.default_rng()
    noise = np.float32(1e-3)
    if is_fault_round:
        begun = os.path.join(marks, f"training-{site}")
        is_again = os.path.exists(begun)
        open(begun, "w").close()
        if site == 1 and config["fault"].startswith("killedBefore") and not is_again:
            time.sleep(600)  # it is killed here
        time.sleep(float(str(config["seconds"]).split(",")[site - 1]))
        if site == 1 and config["fault"] == "nan":
            noise = np.float32("nan")
    else:
        time.sleep(1)
    arrays = ArrayRecord(
        {
            name: Array(array.numpy() + random.standard_normal(array.numpy().shape, dtype=np.float32) * noise)
            for name, array in message.content["arrays"].items()
        }
    )
    if is_fault_round:
        open(os.path.join(marks, f"trained-{site}"), "w").close()
    return Message(RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 100})}), reply_to=message)
