"""`python3 daemon ARGS...`: set up `.venv` beside this folder, then hand over to `mutebridge ARGS...`.

Works on a fresh machine with nothing but Python: see `bootstrap` for what is set up. What installs the service needs
nothing set up: see `installation`. The syntax here stays readable for old Pythons, so that they can say what is
missing.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - the one place where an older one arrives
    sys.exit("mutebridge needs Python 3.11 or newer; this is {}.{}.{}".format(*sys.version_info))

import os

import bootstrap


def main(args: list[str]) -> None:
    if args[:1] in (["install"], ["uninstall"], ["wheels"]):
        import installation  # noqa: PLC0415 - a start of the daemon needs none of it

        installation.main(args)
        return
    extras = {"demo"} if args[:1] == ["demo"] or "--embedded-broker" in args else set()
    if args[:1] == ["controller"]:
        extras.add("genesys-cloud")
    command = str(bootstrap.set_up(extras) / "bin" / "mutebridge")
    os.execv(command, [command, *args])


if __name__ == "__main__":
    with bootstrap.errors_for_people():
        main(sys.argv[1:])
