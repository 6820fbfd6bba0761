"""`python -m harness.runtime.proxies.embedded`: the embedded proxy engine as a process of its own."""

from __future__ import annotations

import sys

from harness.runtime.proxies.embedded.command import main

if __name__ == "__main__":
    sys.exit(main())
