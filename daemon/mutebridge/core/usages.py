"""The HID usages that matter to a mute button, each one a pair (usage page, usage id).

Usage ids repeat from page to page (LED Hold and Hook Switch are both 0x20), so nothing here is an id alone. Names and
numbers are those of the HID Usage Tables, 1.5.
"""

Usage = tuple[int, int]

GENERIC_DESKTOP_PAGE = 0x01
KEYBOARD_PAGE = 0x07
LED_PAGE = 0x08
BUTTON_PAGE = 0x09
TELEPHONY_PAGE = 0x0B
CONSUMER_PAGE = 0x0C

X: Usage = (GENERIC_DESKTOP_PAGE, 0x30)
SYSTEM_MICROPHONE_MUTE: Usage = (GENERIC_DESKTOP_PAGE, 0xA9)

BUTTON_7: Usage = (BUTTON_PAGE, 0x07)

PHONE: Usage = (TELEPHONY_PAGE, 0x01)
HEADSET: Usage = (TELEPHONY_PAGE, 0x05)
PROGRAMMABLE_BUTTON: Usage = (TELEPHONY_PAGE, 0x07)
HOOK_SWITCH: Usage = (TELEPHONY_PAGE, 0x20)
PHONE_MUTE: Usage = (TELEPHONY_PAGE, 0x2F)
RINGER: Usage = (TELEPHONY_PAGE, 0x9E)

CONSUMER_MUTE: Usage = (CONSUMER_PAGE, 0xE2)

LED_MUTE: Usage = (LED_PAGE, 0x09)
LED_OFF_HOOK: Usage = (LED_PAGE, 0x17)
LED_RING: Usage = (LED_PAGE, 0x18)
LED_SPEAKER: Usage = (LED_PAGE, 0x1E)
LED_HOLD: Usage = (LED_PAGE, 0x20)
LED_MICROPHONE: Usage = (LED_PAGE, 0x21)
LED_ON_LINE: Usage = (LED_PAGE, 0x2A)

_NAMES: dict[Usage, str] = {
    (GENERIC_DESKTOP_PAGE, 0x02): "Mouse",
    (GENERIC_DESKTOP_PAGE, 0x06): "Keyboard",
    (GENERIC_DESKTOP_PAGE, 0x80): "System Control",
    SYSTEM_MICROPHONE_MUTE: "System Microphone Mute",
    PHONE: "Phone",
    HEADSET: "Headset",
    (TELEPHONY_PAGE, 0x06): "Telephony Key Pad",
    PROGRAMMABLE_BUTTON: "Programmable Button",
    HOOK_SWITCH: "Hook Switch",
    (TELEPHONY_PAGE, 0x21): "Flash",
    (TELEPHONY_PAGE, 0x23): "Hold",
    (TELEPHONY_PAGE, 0x24): "Redial",
    (TELEPHONY_PAGE, 0x26): "Drop",
    (TELEPHONY_PAGE, 0x2A): "Line",
    (TELEPHONY_PAGE, 0x2B): "Speaker Phone",
    PHONE_MUTE: "Phone Mute",
    (TELEPHONY_PAGE, 0x50): "Speed Dial",
    (TELEPHONY_PAGE, 0x70): "Voice Mail",
    (TELEPHONY_PAGE, 0x97): "Line Busy Tone",
    RINGER: "Ringer",
    (CONSUMER_PAGE, 0x01): "Consumer Control",
    (CONSUMER_PAGE, 0xB0): "Play",
    (CONSUMER_PAGE, 0xB1): "Pause",
    (CONSUMER_PAGE, 0xB5): "Scan Next Track",
    (CONSUMER_PAGE, 0xB6): "Scan Previous Track",
    (CONSUMER_PAGE, 0xB7): "Stop",
    (CONSUMER_PAGE, 0xCD): "Play/Pause",
    CONSUMER_MUTE: "Mute",
    (CONSUMER_PAGE, 0xE9): "Volume Increment",
    (CONSUMER_PAGE, 0xEA): "Volume Decrement",
    LED_MUTE: "LED Mute",
    LED_OFF_HOOK: "LED Off-Hook",
    LED_RING: "LED Ring",
    LED_SPEAKER: "LED Speaker",
    LED_HOLD: "LED Hold",
    LED_MICROPHONE: "LED Microphone",
    LED_ON_LINE: "LED On-Line",
}


def usage_name(usage: Usage) -> str:
    """Return the name, followed by page and id in hex as in `Phone Mute (0x0B:0x2F)`, or only those."""
    page, usage_id = usage
    numbers = f"0x{page:02X}:0x{usage_id:02X}"
    if page == BUTTON_PAGE:
        return f"Button {usage_id} ({numbers})"
    name = _NAMES.get(usage)
    return f"{name} ({numbers})" if name else numbers
