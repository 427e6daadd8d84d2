"""A client that trains nothing: what it got plus fresh noise, because Flower stores equal arrays once."""

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    random = np.random.default_rng()

    def trained(values: np.ndarray) -> np.ndarray:
        return values + random.standard_normal(values.shape, dtype=np.float32) * np.float32(1e-3)

    arrays = ArrayRecord({name: Array(trained(array.numpy())) for name, array in message.content["arrays"].items()})
    metrics = MetricRecord({"num-examples": 100})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)
