"""The checker is checked: a trainer that keeps the contract passes, and each that does not is told which part it breaks."""

import json
import re
import sys
from pathlib import Path

import pytest

from rondo_run.safetensors_file import read_header
from rondo_trainer_check import report
from rondo_trainer_check.__main__ import main, parse_arguments
from rondo_trainer_check.checks import CHECKS, Bench, run_checks
from rondo_trainer_check.fixtures import FixtureError, adapter_shapes, make_fixtures
from rondo_trainer_check.launch import Access, CommandLaunch, ImageLaunch, NetworkError, gateway_of
from rondo_trainer_check.safetensors_bytes import format_safetensors
from rondo_trainer_check.tiny_llama import write_tiny_llama
from rondo_trainer_check.trial import Limits, Stand
from rondo_trainer_check.verdict import BROKEN, NOT_TRIED, OK, WARNING, Verdict

PACKAGE = Path(__file__).parents[1]
PAGE = (PACKAGE.parent / "docs/trainer.md").read_text()
TOY = Path(__file__).parent / "toy_trainer.py"
MODULES = ("q_proj", "v_proj")


SHORT = Limits(seconds=60, grace_seconds=3)


def checked(
    argv: list[str], folder: Path, kinds: tuple[str, ...], only: tuple[str, ...] = (), limits: Limits = SHORT
) -> dict[str, Verdict]:
    stand = Stand(CommandLaunch(argv), make_fixtures(folder, None, None, MODULES), limits, folder)
    return {verdict.check: verdict for verdict in run_checks(Bench(stand, kinds, folder), only)}


@pytest.fixture(autouse=True)
def packages_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PACKAGE))


def test_a_trainer_that_keeps_the_contract_passes_every_check(tmp_path: Path) -> None:
    verdicts = checked([sys.executable, str(TOY)], tmp_path, ("train", "evaluate", "initialise"))
    assert {name: verdict.sentence for name, verdict in verdicts.items() if verdict.status != OK} == {}
    assert list(verdicts) == [check.name for check in CHECKS]


@pytest.mark.parametrize("kind", ["evaluate", "initialise"])
def test_a_trainer_of_one_kind_is_checked_for_that_kind_alone(tmp_path: Path, kind: str) -> None:
    verdicts = checked([sys.executable, str(TOY)], tmp_path, (kind,), only=(kind, "train", "other-schema", "no-data"))
    assert verdicts.keys() == {kind, "other-schema", "no-data"}
    assert verdicts[kind].status == OK
    assert verdicts["no-data"].status == (NOT_TRIED if kind == "initialise" else OK)


@pytest.mark.parametrize(
    ("fault", "check", "status", "says"),
    [
        ("crash", "train", BROKEN, 'exit 1 instead of 0; its last words: "RuntimeError: a bug of its own"'),
        ("crash", "train-adapter", NOT_TRIED, "the train task handed back no adapter"),
        ("crash", "parent", NOT_TRIED, "the train task failed: exit 1"),
        ("silence", "train", BROKEN, "was killed; it made no call to the agent at all"),
        ("no result", "train", BROKEN, "exit 0, but no result was delivered"),
        ("wrong names", "train-adapter", BROKEN, "1 of 8 tensors are missing, the first is base_model.model"),
        ("wrong shapes", "train-adapter", BROKEN, r"lora_A.weight has shape \(32, 2\), and the parent's has \(2, 32\)"),
        ("not finite", "train-adapter", BROKEN, "holds values that are not finite; end with 70"),
        ("other type", "train-adapter", BROKEN, "is I32; the agent reads F32, F16 and BF16"),
        ("trains nothing", "trained", BROKEN, "is the parent itself"),
        ("starts afresh", "parent", BROKEN, "does it start from its own"),
        ("another result each time", "same-seed", WARNING, "not deterministic"),
        ("minds new fields", "unknown-fields", BROKEN, "exit 64 instead of 0"),
        ("wrong digest", "train-digest", BROKEN, "adapterSha256 is 0000.* the agent answers 422"),
        ("incomplete result", "train-result", BROKEN, "examples is None; it must be a whole number"),
        ("result first", "train-order", BROKEN, "the result came before the adapter"),
        ("late adapter", "train-order", BROKEN, "PUT /v1/task/adapter came after the result"),
        ("tells too often", "progress", BROKEN, r"two calls came 0\.\d\d s apart"),
        ("forgets the candidate", "candidate", BROKEN, "is the candidate looked at"),
        ("trains what is frozen", "frozen", BROKEN, "it changed the half of the adapter that the task says is frozen"),
        ("passes over privacy", "record-privacy", BROKEN, "it trained as if nothing had been asked"),
        ("looks at nothing", "other-base", BROKEN, "it went on and sent PUT /v1/task/adapter; it must end with 69 before"),
        ("looks at nothing", "empty-data", BROKEN, "it must end with 65"),
        ("gives up at once", "restart", BROKEN, "exit 1 instead of 0"),
        ("never takes no", "refusal", BROKEN, "PUT /v1/task/adapter was sent 5 times although 422 is final"),
        ("ignores SIGTERM", "stop", BROKEN, "it was still there 3 s after SIGTERM"),
        ("trusts anybody", "stranger", BROKEN, "it sent GET /v1/task, token and all, to a server"),
        ("prints the token", "token", BROKEN, "the token is in what it printed"),
        ("writes elsewhere", "files", BROKEN, "it wrote work/cache.bin"),
    ],
)
def test_each_fault_is_named(tmp_path: Path, fault: str, check: str, status: str, says: str) -> None:
    kind = "evaluate" if check == "candidate" else "train"
    limits = Limits(2, 3) if fault == "silence" else SHORT
    verdict = checked([sys.executable, str(TOY), fault], tmp_path, (kind,), only=(check,), limits=limits)[check]
    assert verdict.status == status, verdict.sentence
    assert re.search(says, verdict.sentence), verdict.sentence


def test_last_words_never_show_the_token(tmp_path: Path) -> None:
    leaky = [sys.executable, "-c", "import os, sys; sys.exit('my ' + open(os.environ['RONDO_TASK_TOKEN_FILE']).read())"]
    assert checked(leaky, tmp_path, ("train",), only=("train",))["train"].sentence.endswith('"my <the token>"')


def test_rondos_own_trainer_keeps_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RONDO_THREADS", "1")
    verdicts = checked([sys.executable, "-m", "rondo_trainer"], tmp_path, ("train", "evaluate", "initialise"), limits=Limits(300, 30))
    assert {name: verdict.sentence for name, verdict in verdicts.items() if verdict.status != OK} == {}


@pytest.mark.parametrize("says", sorted({check.says for check in CHECKS}))
def test_a_report_quotes_the_contract_literally(says: str) -> None:
    assert " ".join(says.split()) in " ".join(PAGE.split())


def test_the_names_of_checks_are_unique() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS)


def test_transformers_loads_the_tiny_base_model_and_its_tokeniser(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    write_tiny_llama(tmp_path)
    model, loading = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    tokeniser = AutoTokenizer.from_pretrained(tmp_path)
    tokens = tokeniser.apply_chat_template([{"role": "user", "content": "ä b"}], tokenize=False)
    assert tokeniser.decode(tokeniser(tokens)["input_ids"]) == tokens == "<|im_start|>user\nä b<|im_end|>\n"
    assert model.config.vocab_size == len(tokeniser)


def test_the_adapters_are_those_that_peft_puts_on_this_model(tmp_path: Path) -> None:
    from rondo_trainer.initialise import adapter_shapes as shapes_by_peft
    from rondo_trainer.task import Adapter

    write_tiny_llama(tmp_path)
    assert adapter_shapes(tmp_path, MODULES) == shapes_by_peft(tmp_path, Adapter(2, 4, MODULES))


def test_a_safetensors_file_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    file = tmp_path / "x.safetensors"
    file.write_bytes(format_safetensors({"b": ((2, 1), [1.5, -2.0]), "a": ((1,), [3.0])}))
    assert {name: tensor.tolist() for name, tensor in load_file(file).items()} == {"a": [3.0], "b": [[1.5], [-2.0]]}
    assert {name: tensor.shape for name, tensor in read_header(file).items()} == {"a": (1,), "b": (2, 1)}


def test_a_model_without_the_target_modules_is_named(tmp_path: Path) -> None:
    write_tiny_llama(tmp_path)
    with pytest.raises(FixtureError, match="has no linear layer c_attn; name its own with --target-modules"):
        adapter_shapes(tmp_path, ("q_proj", "c_attn"))


def test_a_container_has_the_restrictions_of_an_agents_pod(tmp_path: Path) -> None:
    access = Access("https://10.88.7.1:4433", tmp_path / "secret", tmp_path / "model", tmp_path / "data", tmp_path)
    argv = ImageLaunch("podman", "registry.example/trainer:1", "inside", "10.88.7.1").argv(access, "name")
    line = " ".join(argv)
    assert argv[:2] == ["podman", "run"]
    assert argv[-1] == "registry.example/trainer:1"
    for words in (
        "--network inside",
        "--read-only --user 10001:10001 --cap-drop ALL --security-opt no-new-privileges",
        "--tmpfs /rondo/out:rw,mode=1777,uid=10001,gid=10001 --tmpfs /tmp:rw,mode=1777",
        "--env RONDO_TASK_URL=https://10.88.7.1:4433 --env RONDO_TASK_CA=/rondo/task/ca.crt",
        f"--volume {tmp_path}/secret:/rondo/task:ro",
        f"--volume {tmp_path}/model:/rondo/model:ro",
        f"--volume {tmp_path}/data:/rondo/data:ro",
    ):
        assert words in line


def test_a_site_without_data_mounts_none(tmp_path: Path) -> None:
    access = Access("https://10.88.7.1:4433", tmp_path, tmp_path, None, tmp_path)
    assert "/rondo/data" not in " ".join(ImageLaunch("docker", "image", "inside", "10.88.7.1").argv(access, "name"))


@pytest.mark.parametrize(
    "inspected",
    [
        [{"IPAM": {"Config": [{"Subnet": "172.20.0.0/16", "Gateway": "172.20.0.1"}]}}],
        [{"subnets": [{"subnet": "172.20.0.0/16", "gateway": "172.20.0.1"}]}],
    ],
    ids=["docker and nerdctl", "podman"],
)
def test_the_gateway_of_a_network_is_where_containers_reach_this_machine(inspected: list) -> None:
    assert gateway_of(json.dumps(inspected)) == "172.20.0.1"


@pytest.mark.parametrize("inspected", ["", "[]", '[{"IPAM": {"Config": null}}]'])
def test_a_network_without_a_gateway_is_no_network_for_a_check(inspected: str) -> None:
    with pytest.raises(NetworkError, match="--network and --address"):
        gateway_of(inspected)


def test_the_report_as_text_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    toy = ["--kinds", "train", "--only", "train,train-digest", "--", sys.executable, str(TOY)]
    assert main(toy) == 0
    said = capsys.readouterr().out
    assert "ok         train              exit 0" in said
    assert said.endswith("2 ok: the contract is kept\n")
    assert main(["--json", *toy, "wrong digest"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["kept"] is False
    assert [each["status"] for each in document["checks"]] == [BROKEN, BROKEN]


def test_a_report_without_a_single_good_word_keeps_nothing() -> None:
    assert not report.is_kept([])
    assert not report.is_kept([Verdict("train", NOT_TRIED, "", "")])
    assert report.is_kept([Verdict("train", OK, "", ""), Verdict("same-seed", WARNING, "", "")])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "name either a command, behind --, or --image"),
        (["--image", "x", "--", "true"], "name either a command"),
        (["--kinds", "dance", "--", "true"], "there is no kind dance"),
        (["--only", "charm", "--", "true"], "there is no check charm"),
        (["--image", "x", "--network", "mine"], "--network and --address go together"),
        (["--model", "/no/such/folder", "--", "true"], "/no/such/folder is no folder"),
    ],
)
def test_a_wrong_argument_is_named(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(arguments)
    assert says in capsys.readouterr().err
