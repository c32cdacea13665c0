"""The till as shops know it: drawers, periods, the shop's day."""
