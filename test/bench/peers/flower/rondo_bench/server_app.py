"""Flower's own FedAvg; only the times at which it begins and ends a round are written down."""

import json
import time

import numpy as np
from flwr.app import Array, ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


class TimedFedAvg(FedAvg):
    log = ""

    def mark(self, **event):
        with open(self.log, "a") as log:
            log.write(json.dumps({"at": time.time(), **event}) + "\n")

    def configure_train(self, server_round, arrays, config, grid):
        self.mark(event="begun", round=server_round)
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(self, server_round, replies):
        replies = list(replies)
        result = super().aggregate_train(server_round, replies)
        good = sum(not reply.has_error() for reply in replies)
        self.mark(event="ended", round=server_round, replies=good)
        return result


@app.main()
def main(grid: Grid, context: Context) -> None:
    config = context.run_config
    random = np.random.default_rng()
    shape = (config["rows"], config["columns"])
    names = [f"tensor{i}" for i in range(config["tensors"])]
    arrays = ArrayRecord({name: Array(random.standard_normal(shape, dtype=np.float32)) for name in names})
    clients = config["clients"]
    strategy = TimedFedAvg(fraction_evaluate=0.0, min_train_nodes=clients, min_available_nodes=clients)
    strategy.log = config["log"]
    strategy.start(grid=grid, initial_arrays=arrays, num_rounds=config["num-rounds"])
    strategy.mark(event="finished")
