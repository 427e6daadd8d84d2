"""Flower's own SecAgg+ workflow around its FedAvg; only the times at which a round begins and ends are written down."""

import json
import time

import numpy as np
from flwr.app import Context
from flwr.common import ndarrays_to_parameters
from flwr.server import LegacyContext, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow
from flwr.serverapp import Grid, ServerApp

app = ServerApp()
# Of Rondo for five members (secure-aggregation.md section 4): both must be able to lose one.
THRESHOLD = 4


class CountingFedAvg(FedAvg):
    """Whether the sum was made: a workflow that lost its round goes on without a word."""

    aggregated = 0

    def aggregate_fit(self, server_round, results, failures):
        self.aggregated = len(results)
        return super().aggregate_fit(server_round, results, failures)


@app.main()
def main(grid: Grid, context: Context) -> None:
    config = context.run_config
    clients = config["clients"]

    def mark(**event):
        with open(config["log"], "a") as log:
            log.write(json.dumps({"at": time.time(), **event}) + "\n")

    random = np.random.default_rng()
    shape = (config["rows"], config["columns"])
    initial = [random.standard_normal(shape, dtype=np.float32) for _ in range(config["tensors"])]
    strategy = CountingFedAvg(
        fraction_fit=1.0,
        fraction_evaluate=0.0,
        min_fit_clients=clients,
        min_available_clients=clients,
        initial_parameters=ndarrays_to_parameters(initial),
    )
    workflow = SecAggPlusWorkflow(num_shares=clients, reconstruction_threshold=THRESHOLD, timeout=600)
    rounds = 0

    def fit(grid: Grid, context: LegacyContext) -> None:
        nonlocal rounds
        rounds += 1
        strategy.aggregated = 0
        mark(event="begun", round=rounds)
        workflow(grid, context)
        mark(event="ended", round=rounds, replies=strategy.aggregated)

    legacy = LegacyContext(context=context, config=ServerConfig(num_rounds=config["num-rounds"]), strategy=strategy)
    DefaultWorkflow(fit_workflow=fit)(grid, legacy)
    mark(event="finished")
