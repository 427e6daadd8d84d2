"""docs/trainer.md says what the code does."""

import re
from pathlib import Path

import pytest

from rondo_trainer import exits, site_settings

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs/trainer.md").read_text()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"RONDO_[A-Z_]+", Path(site_settings.__file__).read_text()))))
def test_every_variable_is_described(name: str) -> None:
    assert f"`{name}`" in PAGE


@pytest.mark.parametrize("code", [code for code in exits.MEANING if exits.NOT_UNDERSTOOD <= code <= exits.BUDGET_EXCEEDED])
def test_every_exit_code_that_forbids_a_retry_is_described_in_the_same_words(code: int) -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| {code} |"))
    assert exits.MEANING[code].split(",")[0] in row or code == exits.REFUSED


def test_the_defaults_are_those_of_the_page() -> None:
    assert f"| `RONDO_HELD_OUT_MAX` | `{site_settings.HELD_OUT_MAX}` |" in PAGE
    assert f"| `RONDO_HELD_OUT_PERCENT` | `{site_settings.HELD_OUT_PERCENT}` |" in PAGE


def test_the_digests_of_the_demos_federations_are_those_of_the_models() -> None:
    from rondo_trainer.model import weights_digest

    tiny = (REPOSITORY / "examples/demo/federation-tiny.yaml").read_text()
    assert weights_digest(REPOSITORY / "test/models/tiny-llama") in tiny
