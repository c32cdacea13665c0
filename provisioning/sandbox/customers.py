"""Who may stand at the PIN pad of a sandbox, and what may break there: each word with what happens."""

from __future__ import annotations

from typing import Final

CUSTOMERS_AT_PAD: Final = {
    "approve": "a good card",
    "decline": "a card whose bank says no",
    "timeout": "nobody comes",
    "cancel": "somebody who presses the red key",
    "unreachable": "a card whose bank cannot be reached, and that does not do without",
    "offline": "a card whose bank cannot be reached, and that the PIN pad takes by its own rules",
    "offline-refused": "a card that the PIN pad takes without its bank, which says no when it is asked later",
    "cut": "the line breaks before the card is read",
    "broken": "the line breaks when the money is taken and before that is said",
    "silent": "the money is taken, and the PIN pad says no more",
    "off": "the PIN pad does not answer at all",
}
