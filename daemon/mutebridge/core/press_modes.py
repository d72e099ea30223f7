"""What a gesture on a button asks for, by its press mode.

    mode            press        release           toggle     switched muted   switched live
    toggle          invert       -                 invert     invert           invert
    push_to_talk    live, held   let go: mute      invert     mute             live
    push_to_mute    mute, held   let go: undo      invert     mute             live
    state           mute         live              invert     mute             live

A button that only toggles cannot be held, so in every mode it inverts. A maintained switch says where it stands: in
toggle mode each of its changes is a press, because the switch and the microphone may have parted ways. A press that
says what it asks for (`MuteAsked`) gets that in every mode.
"""

import enum

from mutebridge.core.events import MuteAsked, MutePressed, MuteReleased, MuteSwitched, MuteToggled, PressMode


class Wish(enum.Enum):
    INVERT = "invert"
    MUTE = "mute"
    LIVE = "live"
    HOLD_LIVE = "hold_live"
    HOLD_MUTE = "hold_mute"
    LET_GO = "let_go"


Gesture = MutePressed | MuteReleased | MuteToggled | MuteSwitched | MuteAsked

_WISHES = {
    (PressMode.TOGGLE, "press"): Wish.INVERT,
    (PressMode.TOGGLE, "muted"): Wish.INVERT,
    (PressMode.TOGGLE, "live"): Wish.INVERT,
    (PressMode.PUSH_TO_TALK, "press"): Wish.HOLD_LIVE,
    (PressMode.PUSH_TO_TALK, "release"): Wish.LET_GO,
    (PressMode.PUSH_TO_MUTE, "press"): Wish.HOLD_MUTE,
    (PressMode.PUSH_TO_MUTE, "release"): Wish.LET_GO,
    (PressMode.STATE, "press"): Wish.MUTE,
    (PressMode.STATE, "release"): Wish.LIVE,
}
_OTHERWISE = {
    "toggle": Wish.INVERT,
    "muted": Wish.MUTE,
    "live": Wish.LIVE,
    "mute": Wish.MUTE,
    "unmute": Wish.LIVE,
}


def gesture_name(gesture: Gesture) -> str:
    match gesture:
        case MutePressed():
            return "press"
        case MuteReleased():
            return "release"
        case MuteToggled():
            return "toggle"
        case MuteAsked():
            return "mute" if gesture.muted else "unmute"
    return "muted" if gesture.muted else "live"


def wish(mode: PressMode, gesture: Gesture) -> Wish | None:
    """What the gesture asks for; None: nothing, as the baseline of a switch."""
    if isinstance(gesture, MuteSwitched) and gesture.baseline:
        return None
    name = gesture_name(gesture)
    return _WISHES.get((mode, name), _OTHERWISE.get(name))
