"""The commands that one controller has been sent: only what no scenario can show."""

from mutebridge.core.commands import Commands, Pending, Press
from mutebridge.core.contract import Action, Command, CommandError, Result


def sent(commands: Commands, request_id: str, *, muted: bool) -> Pending:
    command = Command(request_id=request_id, action=Action.SET_MUTE, muted=muted, expires_at=2000)
    pending = Pending(command=command, press=Press("p", "button", "press", 0), expires=2, repeat_at=None)
    commands.sent(pending)
    return pending


def test_only_the_last_commands_are_remembered() -> None:
    commands = Commands()
    for number in range(1000):
        sent(commands, f"r{number}", muted=True)
    assert commands.is_ours("r999")
    assert not commands.is_ours("r0")
    assert len(commands._numbers) == len(commands._order) <= 64


def test_the_answer_to_a_forgotten_command_proves_nothing() -> None:
    commands = Commands()
    for number in range(100):
        sent(commands, f"r{number}", muted=False)
    commands.result_arrived(Result(request_id="r0", ok=False, error=CommandError.STALE), muted=True)
    assert commands.in_doubt
