"""Every wire shape is made ready before a second thread may need it.

Owns a flaw of msgspec (0.22.0, the newest): it works out a `Struct` at its first use and shows the half-made result to
other threads meanwhile, so two threads that meet a shape for the first time together may end the process (SIGSEGV in
`convert`: seen with two tills in one process). Afterwards a shape is only read, and safe. A generic shape has no form
of its own; the few there are (`adapters/stripe_reply.py`) belong to the event loop's thread.
"""

from __future__ import annotations

import msgspec


def settle_shapes() -> None:
    """Work out every `Struct` that is defined by now. Call it when all modules are imported, before threads begin."""
    waiting = msgspec.Struct.__subclasses__()
    while waiting:
        shape = waiting.pop()
        waiting += shape.__subclasses__()
        is_generic = bool(getattr(shape, "__parameters__", ()))
        if not is_generic and not shape.__module__.startswith("msgspec"):
            msgspec.json.Decoder(shape)
