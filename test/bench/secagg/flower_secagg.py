"""Flower's SecAgg+ functions, asked line by line: client and server of the installed `flwr`, unmodified, without a network.

Reads one JSON object per line, answers with one.
`{"do": "masking", "clients": n, "parameters": d}` prepares n clients and times the stage "collect masked vectors" of one of them
(decrypt shares, quantise, mask, serialise).
`{"do": "unmasking", "clients": n, "parameters": d, "dropped": k}` prepares a round up to the sum of the masked vectors and times
the server's stage "unmask". A second question of the same kind and size is timed on what the first one prepared.
"""

import inspect
import json
import logging
import sys
import time

import flwr.client.mod.secure_aggregation.secaggplus_mod  # noqa: F401  (its package exports a function of the same name)
import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key, Stage
from flwr.compat.common import recorddict_compat
from flwr.server import LegacyContext, ServerConfig
from flwr.server.client_manager import SimpleClientManager
from flwr.server.compat.grid_client_proxy import GridClientProxy
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
from flwr.server.workflow.constant import Key as WorkflowKey
from flwr.server.workflow.secure_aggregation.secaggplus_workflow import WorkflowState
from flwr.supercore.task_identity import TaskIdentity

client_mod = sys.modules["flwr.client.mod.secure_aggregation.secaggplus_mod"]
logging.getLogger("flwr").setLevel(logging.CRITICAL)
# A Message cannot be built outside of a run unless these are set.
TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1

EXAMPLES = 100
# The defaults of SecAggPlusWorkflow.
DEFAULTS = {Key.CLIPPING_RANGE: 8.0, Key.TARGET_RANGE: 1 << 22, Key.MOD_RANGE: 1 << 32, Key.MAX_WEIGHT: 1000.0}


def update(parameters):
    return np.random.default_rng(7).standard_normal(parameters, dtype=np.float32) * np.float32(1e-3)


def context_of(node):
    given = {"run_id": 1, "node_id": node, "node_config": {}, "state": RecordDict(), "run_config": {}}
    known = inspect.signature(Context.__init__).parameters
    return Context(**{name: value for name, value in given.items() if name in known})


class Masking:
    """One client of n, ready for the stage in which it masks."""

    def __init__(self, clients, parameters):
        states = {i: client_mod.SecAggPlusState() for i in range(1, clients + 1)}
        numbers = {Key.SAMPLE_NUMBER: clients, Key.SHARE_NUMBER: clients, Key.THRESHOLD: clients // 2 + 1}
        for i, state in states.items():
            state.nid = i
            client_mod._setup(state, {**numbers, **DEFAULTS})
        public = {str(i): (state.pk1, state.pk2) for i, state in states.items()}
        sources, ciphertexts = [], []
        for i, state in states.items():
            shares = client_mod._share_keys(state, dict(public))
            for receiver, ciphertext in zip(shares[Key.DESTINATION_LIST], shares[Key.CIPHERTEXT_LIST], strict=True):
                if receiver == 1:
                    sources.append(i)
                    ciphertexts.append(ciphertext)
        self.state = states[1]
        self.configs = {Key.CIPHERTEXT_LIST: ciphertexts, Key.SOURCE_LIST: sources}
        self.parameters = ndarrays_to_parameters([update(parameters)])
        self.count = parameters

    def time(self):
        start = time.perf_counter()
        result = client_mod._collect_masked_vectors(self.state, self.configs, EXAMPLES, self.parameters)
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "bytesPerParameter": sum(map(len, result[Key.MASKED_PARAMETERS])) / self.count}


class Grid:
    """Hands the server's messages to the clients of this process."""

    def __init__(self, clients, parameters, dropped):
        self.contexts = {i: context_of(i) for i in range(1, clients + 1)}
        self.dropped = set(range(1, dropped + 1))
        self.update = update(parameters)
        self.seconds = 0.0

    def get_node_ids(self):
        return list(self.contexts)

    def send_and_receive(self, messages, *, timeout=None):
        start = time.perf_counter()
        replies = [reply for reply in map(self.reply, messages) if reply is not None]
        self.seconds += time.perf_counter() - start
        return replies

    def reply(self, message):
        node = message.metadata.dst_node_id
        stage = message.content.config_records[RECORD_KEY_CONFIGS][Key.STAGE]
        if node in self.dropped and stage in (Stage.COLLECT_MASKED_VECTORS, Stage.UNMASK):
            return None
        content = RecordDict()
        for name, record in message.content.items():
            content[name] = ConfigRecord(dict(record)) if isinstance(record, ConfigRecord) else record
        metadata = message.metadata
        copy = Message(content, dst_node_id=node, message_type=metadata.message_type, group_id=metadata.group_id)
        reply = client_mod.secaggplus_mod(copy, self.contexts[node], self.train)
        reply.metadata.__dict__["_src_node_id"] = node
        return reply

    def train(self, message, context):
        result = FitRes(Status(Code.OK, ""), ndarrays_to_parameters([self.update]), EXAMPLES, {})
        return Message(recorddict_compat.fitres_to_recorddict(result, False), reply_to=message)


class Unmasking:
    """A server that has the sum of the masked vectors."""

    def __init__(self, clients, parameters, dropped):
        self.grid = Grid(clients, parameters, dropped)
        manager = SimpleClientManager()
        for node in self.grid.get_node_ids():
            manager.register(GridClientProxy(node_id=node, grid=self.grid, run_id=1))
        strategy = FedAvg(fraction_fit=1.0, min_fit_clients=2, min_available_clients=2)
        aggregate = strategy.aggregate_fit

        def timed(*args):
            start = time.perf_counter()
            result = aggregate(*args)
            self.strategy_seconds = time.perf_counter() - start
            return result

        strategy.aggregate_fit = timed
        config = ServerConfig(num_rounds=1)
        self.context = LegacyContext(context=context_of(0), config=config, strategy=strategy, client_manager=manager)
        records = self.context.state
        records.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({WorkflowKey.CURRENT_ROUND: 1})
        model = ndarrays_to_parameters([np.zeros(parameters, np.float32)])
        records.array_records[MAIN_PARAMS_RECORD] = recorddict_compat.parameters_to_arrayrecord(model, False)
        self.workflow = SecAggPlusWorkflow(num_shares=1.0, reconstruction_threshold=0.5)
        self.state = WorkflowState()
        for stage in ("setup_stage", "share_keys_stage", "collect_masked_vectors_stage"):
            if not getattr(self.workflow, stage)(self.grid, self.context, self.state):
                raise RuntimeError(f"Flower's {stage} failed: {self.state.failures}")
        self.kept = {
            "aggregate_ndarrays": [array.copy() for array in self.state.aggregate_ndarrays],
            "active_node_ids": set(self.state.active_node_ids),
            "nid_to_neighbours": {node: set(ids) for node, ids in self.state.nid_to_neighbours.items()},
            "failures": list(self.state.failures),
        }
        self.client_states = {node: self.client_state(node) for node in self.grid.get_node_ids()}

    def client_state(self, node):
        records = self.grid.contexts[node].state.config_records
        return {name: dict(record) for name, record in records.items()}

    def time(self):
        self.state.aggregate_ndarrays = [array.copy() for array in self.kept["aggregate_ndarrays"]]
        self.state.active_node_ids = set(self.kept["active_node_ids"])
        self.state.nid_to_neighbours = {node: set(ids) for node, ids in self.kept["nid_to_neighbours"].items()}
        self.state.failures = list(self.kept["failures"])
        for node, records in self.client_states.items():
            for name, record in records.items():
                self.grid.contexts[node].state.config_records[name] = ConfigRecord(dict(record))
        self.grid.seconds = 0.0
        start = time.perf_counter()
        if not self.workflow.unmask_stage(self.grid, self.context, self.state):
            raise RuntimeError("Flower's unmask_stage failed")
        seconds = time.perf_counter() - start - self.grid.seconds
        return {"seconds": seconds, "withoutStrategySeconds": seconds - self.strategy_seconds}


prepared = (None, None)
for line in sys.stdin:
    question = json.loads(line)
    kind = question.pop("do")
    asked = (kind, tuple(question.items()))
    if prepared[0] != asked:
        prepared = (None, None)  # frees what the last one held, before the next one is made
        prepared = (asked, {"masking": Masking, "unmasking": Unmasking}[kind](**question))
    print(json.dumps(prepared[1].time()), flush=True)
