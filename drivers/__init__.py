"""Blocking, thread-confined hardware code: no asyncio, no policy, nothing of ours imported."""
