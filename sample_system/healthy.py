"""Health check of a container: exit code 0 when the service in it is ready."""

from __future__ import annotations

import sys
from urllib.error import URLError
from urllib.request import urlopen

if __name__ == "__main__":
    try:
        urlopen("http://127.0.0.1:8000/health/ready", timeout=1.5).close()
    except (URLError, OSError) as error:
        sys.exit(f"not ready: {error}")
