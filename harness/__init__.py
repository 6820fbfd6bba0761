"""Chaos Harness: break one dependency of a system on purpose and judge whether the damage stayed contained.

The layers, each a package that imports only from those before it: `errors`, `model` (what the user
wrote), `plan` (what is going to happen), `history` (what happened), `judge` (what it means), `report`
(how it is told), `runtime` (everything that touches the world), `experiment` (one run from file to
verdict), `cli`.
"""

__version__ = "0.1.0"
