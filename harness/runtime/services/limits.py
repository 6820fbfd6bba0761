"""Limits of processor and memory for processes of this machine."""

from __future__ import annotations


def cannot_limit() -> dict[str, str]:
    """The kinds of fault that this machine does not allow for a process, each with why."""
    return dict.fromkeys(("cpu", "memory"), "no control groups can be made here")
