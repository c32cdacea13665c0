"""Settings of what is handed to customers on paper."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from appliance.config.section import Section


class Slips(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a customer gets in the hand."""

    page_url: Annotated[
        str,
        Meta(
            pattern=r"\A(?:https://[^\s?#@]{1,120}/)?\Z",
            description="Where customers check a slip: address of the page that `tillstone page` wrote, ending"
            " in a slash. It stands in the QR code of each slip; without it slips have none.",
            examples=["https://corner-shop.example/check/"],
        ),
    ] = ""


class Printer(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A receipt printer that speaks ESC/POS, with a drawer on its cable; without this table nothing is printed."""

    address: Annotated[
        str,
        Meta(
            pattern=r"\A(?:/dev/[0-9A-Za-z/_.-]{1,100}|socket://[0-9A-Za-z.:_-]{1,253}:[0-9]{1,5})\Z",
            description="Serial device, or host and port (network printers listen on 9100).",
            examples=["/dev/ttyUSB0"],
        ),
    ]
    baud: Annotated[int, Meta(ge=1_200, le=921_600, description="Speed of a serial line.")] = 38_400
    columns: Annotated[
        int, Meta(ge=32, le=64, description="Characters of a row in font A: 48 or 42 on 80-mm paper, 32 on 58 mm.")
    ] = 42
    dots: Annotated[
        int, Meta(ge=128, le=1_024, description="Printable width, for QR codes: 576 on 80-mm paper, 384 on 58 mm.")
    ] = 576
    code_page: Annotated[
        Literal["cp437", "cp850", "cp852", "cp858", "cp866", "cp1252"],
        Meta(description="Characters that the printer has; others become a lookalike or a question mark."),
    ] = "cp858"
    prints: Annotated[
        Literal["each_sale", "on_request"],
        Meta(
            description="each_sale: an original of every sale, refund and reversal as soon as it is durable."
            " on_request: only what `tillstone receipt KEY --print` asks for."
        ),
    ] = "each_sale"
    terminals: Annotated[
        tuple[Annotated[str, Meta(max_length=32)], ...],
        Meta(
            max_length=64,
            description="Whose sales come to this printer and open its drawer; none named: all. A shop with a drawer at"
            " each till names the one that this drawer belongs to.",
        ),
    ] = ()
    opens_drawer: Annotated[
        bool,
        Meta(
            description="Open the drawer for cash: sales, refunds, reversals, floats, paid in and out, no sale, counts."
        ),
    ] = True
    drawer_pin: Annotated[
        Literal[2, 5], Meta(description="Pin of the drawer's plug that the pulse goes to; most drawers use 2.")
    ] = 2
    answer_ms: Annotated[
        int, Meta(ge=100, le=10_000, description="Without an answer for this long the printer is silent.")
    ] = 1_500
    print_ms: Annotated[
        int, Meta(ge=500, le=60_000, description="How long one page may take; past it nobody knows what is on paper.")
    ] = 15_000
