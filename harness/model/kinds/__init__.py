"""The kinds of fault, each with its page: on edges, on requests of HTTP, between groups, on services."""
