"""The trainer that Rondo ships: one task of an agent, from its description to the adapter it asks for (docs/trainer.md)."""

__version__ = "0.1.0"
