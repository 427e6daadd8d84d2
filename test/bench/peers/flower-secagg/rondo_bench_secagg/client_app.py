"""A client that trains nothing, behind Flower's own SecAgg+ mod: what it got plus fresh noise."""

import numpy as np
from flwr.client import NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp


class Client(NumPyClient):
    def fit(self, parameters, config):
        random = np.random.default_rng()
        trained = [p + random.standard_normal(p.shape, dtype=np.float32) * np.float32(1e-3) for p in parameters]
        return trained, 100, {}


app = ClientApp(client_fn=lambda context: Client().to_client(), mods=[secaggplus_mod])
