"""Says what is wrong with a shape, in words of the schema alone.

msgspec's own messages repeat what was sent: the name of an unknown member, the value of a wrong word. A card number in
such a place would come back in the answer, so those two are left out.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

_PLACE: Final = re.compile(r"\A(?P<what>.*) - at `(?P<place>\$(?:\.[a-z_]+|\[[0-9]{1,5}\]|\[\.\.\.\])*)`\Z", re.DOTALL)
_REPEATING: Final = {
    "Object contains unknown field": "Object contains an unknown member",
    "Invalid enum value": "Expected one of the listed words",
    "Invalid value": "Expected another value",
}


def explain(fault: msgspec.ValidationError | msgspec.DecodeError) -> str:
    """One sentence for the refusal: what was expected and where; nothing of what was sent."""
    found = _PLACE.match(str(fault))
    what, place = (str(fault), "$") if found is None else (found["what"], found["place"])
    sentence = next((told for begin, told in _REPEATING.items() if what.startswith(begin)), what)
    return f"{sentence} - at `{place}`"
