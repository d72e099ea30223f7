"""What the bridge decides, as pure functions of events and time: no I/O, no clock, no thread."""
