"""Flower's own FedAvg; what each round came to is only written down."""

import json
import time

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


class WrittenFedAvg(FedAvg):
    log = ""

    def mark(self, **event):
        with open(self.log, "a") as log:
            log.write(json.dumps({"at": time.time(), **event}) + "\n")

    def configure_train(self, server_round, arrays, config, grid):
        self.mark(event="begun", round=server_round)
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(self, server_round, replies):
        replies = list(replies)
        arrays, metrics = super().aggregate_train(server_round, replies)
        good = sum(not reply.has_error() for reply in replies)
        errors = [str(reply.error.reason)[:300] for reply in replies if reply.has_error()]
        bad = None if arrays is None else int(sum((~np.isfinite(array.numpy())).sum() for array in arrays.values()))
        self.mark(event="ended", round=server_round, replies=good, errors=errors, nonFinite=bad)
        return arrays, metrics


@app.main()
def main(grid: Grid, context: Context) -> None:
    config = context.run_config
    random = np.random.default_rng()
    arrays = ArrayRecord({f"tensor{i}": Array(random.standard_normal((64, 256), dtype=np.float32)) for i in range(4)})
    minimum = config["minimum"]
    strategy = WrittenFedAvg(fraction_evaluate=0.0, min_train_nodes=minimum, min_available_nodes=minimum)
    strategy.log = config["log"]
    while len(list(grid.get_node_ids())) < len(str(config["seconds"]).split(",")):
        time.sleep(0.5)  # every site takes part in the first round
    told = ConfigRecord({name: config[name] for name in ("fault", "fault-round", "marks", "seconds")})
    strategy.start(grid=grid, initial_arrays=arrays, num_rounds=config["num-rounds"], train_config=told)
    strategy.mark(event="finished")
