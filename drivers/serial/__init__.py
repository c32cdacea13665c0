"""Receipt printers, drawers and PIN pads on a serial line or TCP."""
