"""Everything that can happen in a world, by weight: the whole vocabulary is the table `ACTS`.

A new verb is one function and one line. An act draws what it needs from `world.plan`, and nothing else may: so a seed
stays the same history for as long as this table does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.world import at_the_pad, changing, counting, in_parts, selling, trouble, vouchers

if TYPE_CHECKING:
    from tests.world.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One kind of event; `weight` is how often it is drawn."""

    name: str
    weight: int
    do: Callable[[World], None]


ACTS: Final = (
    Act(name="sell for cash", weight=9, do=selling.sell_for_cash),
    Act(name="sell by card", weight=16, do=selling.sell_by_card),
    Act(name="sell mixed", weight=5, do=selling.sell_mixed),
    Act(name="sell at a reader", weight=8, do=selling.sell_at_a_reader),
    Act(name="sell at a pad", weight=6, do=at_the_pad.sell_at_a_pad),
    Act(name="sell at all pads", weight=3, do=at_the_pad.sell_at_all_pads),
    Act(name="sell without banks", weight=9, do=at_the_pad.sell_without_banks),
    Act(name="sell in parts", weight=9, do=in_parts.sell_in_parts),
    Act(name="pay a part", weight=4, do=in_parts.pay_a_part),
    Act(name="sell a voucher", weight=6, do=vouchers.sell_a_voucher),
    Act(name="spend a voucher", weight=7, do=vouchers.spend_a_voucher),
    Act(name="take back a voucher", weight=2, do=vouchers.take_back_a_voucher),
    Act(name="sell by PayPal", weight=6, do=selling.sell_by_paypal),
    Act(name="sell and capture later", weight=8, do=selling.sell_and_capture_later),
    Act(name="sell and give up", weight=6, do=selling.sell_and_give_up),
    Act(name="sell and try another tender", weight=8, do=selling.sell_and_try_another_tender),
    Act(name="try again", weight=5, do=selling.try_again),
    Act(name="cancel in advance", weight=4, do=changing.cancel_in_advance),
    Act(name="refund", weight=6, do=changing.refund),
    Act(name="refund a part", weight=7, do=changing.refund_a_part),
    Act(name="refund twice at once", weight=6, do=changing.refund_twice_at_once),
    Act(name="capture", weight=6, do=changing.capture),
    Act(name="reverse", weight=6, do=changing.reverse),
    Act(name="abort", weight=4, do=changing.abort),
    Act(name="send stored sales", weight=4, do=selling.send_stored_sales),
    Act(name="send stored sales again", weight=2, do=selling.send_stored_sales_again),
    Act(name="use a drawer", weight=6, do=counting.use_a_drawer),
    Act(name="pay out at two tills", weight=2, do=counting.pay_out_at_two_tills),
    Act(name="read a period", weight=2, do=counting.read_a_period),
    Act(name="close a period", weight=5, do=counting.close_a_period),
    Act(name="close the day", weight=3, do=counting.close_the_day),
    Act(name="send a webhook", weight=6, do=changing.send_a_webhook),
    Act(name="ask again", weight=5, do=changing.ask_again),
    Act(name="look", weight=6, do=changing.look),
    Act(name="tamper", weight=2, do=changing.tamper),
    Act(name="restart a till", weight=2, do=changing.restart_till),
    Act(name="crash soon", weight=6, do=trouble.crash_soon),
    Act(name="crash in a commit", weight=6, do=trouble.crash_in_a_commit),
    Act(name="stop in order", weight=1, do=trouble.stop_in_order),
    Act(name="disk fails", weight=2, do=trouble.disk_fails),
    Act(name="disk is full", weight=1, do=trouble.disk_is_full),
    Act(name="mend the disk", weight=2, do=trouble.mend_disk),
    Act(name="token goes", weight=2, do=trouble.token_goes),
    Act(name="change weather", weight=11, do=trouble.change_weather),
    Act(name="step the clock", weight=2, do=trouble.step_clock),
    Act(name="a till's clock drifts", weight=1, do=trouble.till_clock_drifts),
    Act(name="hours pass", weight=1, do=trouble.hours_pass),
    Act(name="days pass", weight=1, do=trouble.days_pass),
    Act(name="a day without power", weight=2, do=trouble.a_day_without_power),
)
