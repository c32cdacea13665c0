"""Every bound of the product that is not a setting: unit last in the name, reason beside the number."""

from __future__ import annotations

from typing import Final

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS

# The door.
REQUEST_BYTES_MAX: Final = 64 * 1024  # a sale of 200 lines is 30 kB
BATCH_BYTES_MAX: Final = 2 * 1024 * 1024
BATCH_SALES_MAX: Final = 1_000
NESTING_MAX: Final = 8  # our deepest shape is 5: claims, body, sale, lines, line
LINES_MAX: Final = 200
TENDERS_MAX: Final = 8
CARD_TENDERS_MAX: Final = 1  # of one payment; a second card on a sale is a part of its own
PARTS_MAX: Final = 32  # of one sale, whatever became of each: eight that stand, each tried a few times
INCOMPLETE_LISTED_MAX: Final = 32  # sales of a report that were paid in part only
TEXT_CHARACTERS_MAX: Final = 200
EVENT_STREAMS_MAX: Final = 256
CONNECTIONS_MAX: Final = 1_024  # of one door: 256 tills with a stream each, and as much again twice over
CONNECTIONS_PER_ADDRESS_MAX: Final = 256  # tills behind one router share an address; a stranger gets no more than they
TLS_HANDSHAKE_MS_MAX: Final = 5_000
SILENCE_MS_MAX: Final = 75_000  # a connection without a whole request head; the HTTP library would wait an hour

# Money. 10 million major units of a two-digit currency: above it somebody leaned on a key.
AMOUNT_MINOR_MAX: Final = 1_000_000_000
QUANTITY_THOUSANDTHS_MAX: Final = 1_000_000_000
TAX_RATE_BASIS_POINTS_MAX: Final = 10_000

# Idempotency (ARCHITECTURE section 3).
KEY_AGE_MAX_MS: Final = 90 * DAY_MS
KEY_AHEAD_MAX_MS: Final = DAY_MS  # a key from the future would outlive the 90 days in which we remember it

# Waiting.
SIGNATURE_WAIT_MS: Final = 1_000  # then the durable result goes out with `pending`
PROVIDER_DEADLINE_MS: Final = 30_000

# Webhooks.
WEBHOOK_BYTES_MAX: Final = 256 * 1024  # an event carries one object; a payment with all its details is some 10 kB
WEBHOOKS_WAITING_MAX: Final = 256
WEBHOOK_IDS_MAX: Final = 10_000

# The ledger.
ENTRY_BYTES_MAX: Final = 64 * 1024
DISCLOSURE_BYTES_MAX: Final = 64 * 1024
LOG_ENTRIES_MAX: Final = 10**12 - 1  # a century of 300 entries a second; and twelve digits are no card number

# Evidence.
WITNESSES_MAX: Final = 7  # with two lines each and the log's own two, a note has the 16 lines that every reader takes

# Pairing.
PAIRING_CODE_TRIES_MAX: Final = 5
PAIRING_CODE_AGE_MAX_MS: Final = 10 * MINUTE_MS

# The till. A day's close is one entry: its lists end here, the counts beside them do not.
DRAWERS_MAX: Final = 128
TAXES_LISTED_MAX: Final = 32
TAX_RATES_MAX: Final = 64  # distinct (tax code, rate) that one terminal adds up in one drawer; no shop has as many
OPEN_LISTED_MAX: Final = 64
LATE_LISTED_MAX: Final = 64

# Linked retries
SALE_TRIES_MAX: Final = 8
"""How often one sale is tried, whatever became of each try."""

# Reconciliation
BREAKS_PER_ENTRY_MAX: Final = 50  # one is at most 1 kB: names of a provider have up to 120 characters
BREAKS_SHOWN_MAX: Final = 200
