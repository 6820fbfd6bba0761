"""The embedded proxy engine: Toxiproxy's API and toxics in a process of this project's own, and evidence beside them.

It imports the standard library, uvloop and httptools alone, so that it is there a moment after it was started.
"""
