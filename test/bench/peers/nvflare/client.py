"""A client that trains nothing: what it got plus fresh noise."""

import numpy as np
import nvflare.client as flare
from nvflare.app_common.abstract.fl_model import FLModel

flare.init()
random = np.random.default_rng()
while flare.is_running():
    model = flare.receive()
    if model is None:
        break
    params = {
        name: values + random.standard_normal(values.shape, dtype=np.float32) * np.float32(1e-3) for name, values in model.params.items()
    }
    flare.send(FLModel(params=params, metrics={"accuracy": 1.0}, meta={"NUM_STEPS_CURRENT_ROUND": 1}))
