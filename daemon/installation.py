"""Installs the daemon as this machine's service, or removes it again.

    sudo python3 daemon install [--wheels DIR] [--with WHAT] [--check]
    sudo python3 daemon uninstall [--purge] [--check]

A virtual environment below /opt, not a Debian package: no Debian has the libraries in the versions that are needed, so
that a package would hold such an environment all the same, of one Python, for one release, and would need a repository
of its own. An environment is made on the machine by the machine's Python in a few seconds.

    /opt/mutebridge/versions/VERSION-DIGEST   an environment that, once it is whole, is never changed
    /opt/mutebridge/venv                      a link to the one in force, switched in one step
    /opt/mutebridge/manifest.json             what was put where, for the upgrade and the removal
    /usr/local/bin/mutebridge                 a link to the command
    /etc/mutebridge/mutebridge.yaml           the configuration: put there if there is none, never written again
    /etc/systemd, /etc/sysusers.d, /etc/udev  the files of the folder `systemd`
    /var/lib/mutebridge                       the state of the service, made by systemd

The digest is over everything that the environment is made from, so that a second run has nothing to make. Nothing in
an environment points back into the tree, and pip is not in it.

Both commands are a row of steps, each of which looks at the machine before it does anything, and says `ok` or
`changed`. One that fails ends the run; what was done stays, is in the manifest, and the next run goes on from there.
The service is restarted when something changed, and earlier environments go once the new one runs.

A removal takes what is in the manifest. The configuration stays if somebody wrote in it, except with `--purge`; so do
drop-ins of the unit, which this never made. The service's state, which is who was paired with the embedded broker, goes
with the user who owns it. Users that were there before stay.
"""

import argparse
import contextlib
import grp
import hashlib
import json
import os
import pwd
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import bootstrap
import wheelhouse
from bootstrap import SetUpError, say

SERVICE = "mutebridge.service"

_HOME = Path("opt/mutebridge")
_LINK = Path("usr/local/bin/mutebridge")
_CONFIG = Path("etc/mutebridge/mutebridge.yaml")
_DROP_INS = Path(f"etc/systemd/system/{SERVICE}.d")
_STAMP = "mutebridge-is-whole"
_STATE = Path("var/lib/mutebridge")  # the unit's StateDirectory
# Where the files of the folder `systemd` go.
_PLACES = {
    "mutebridge.service": Path("etc/systemd/system/mutebridge.service"),
    "mutebridge-genesys-cloud.service": Path("etc/systemd/user/mutebridge-genesys-cloud.service"),
    "mutebridge.sysusers": Path("etc/sysusers.d/mutebridge.conf"),
    "70-mutebridge.rules": Path("etc/udev/rules.d/70-mutebridge.rules"),
}


def main(args: Sequence[str], tree: Path = bootstrap.ROOT) -> None:
    """Carry out a command line: `install`, `uninstall` or `wheels`, and options."""
    wanted = _parser().parse_args(args)
    if wanted.command == "wheels":
        wheelhouse.fill(wanted.folder.absolute(), wanted.extras or (), wanted.python_version, tree)
        return
    root: Path = wanted.root.absolute()
    if root == Path("/") and os.geteuid() != 0:
        say(f"only root can do that; type:\n    sudo python3 {tree / 'daemon'} {' '.join(args)}")
        sys.exit(os.EX_NOPERM)
    os.umask(0o022)  # the service's user reads what is put down here
    work = _Work(root, dry=wanted.check)
    try:
        with bootstrap.locked(root):
            if wanted.command == "install":
                _Installation(work, tree, wanted.wheels and wanted.wheels.absolute(), wanted.extras).install()
            else:
                _uninstall(work, purge=wanted.purge)
    except OSError as error:
        raise SetUpError(f"{error}. {_AGAIN}") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 daemon", description="Administer mutebridge on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    install = commands.add_parser("install", help="install or upgrade the service")
    install.add_argument("--wheels", type=Path, metavar="DIR", help="no network: take everything from this folder")
    uninstall = commands.add_parser("uninstall", help="remove the service")
    uninstall.add_argument("--purge", action="store_true", help="the configuration too, also a changed one")
    for command in (install, uninstall):
        command.add_argument("--check", action="store_true", help="only say what would be done")
        command.add_argument(
            "--root", type=Path, default=Path("/"), metavar="DIR", help="files below DIR only: no user, no service"
        )
    wheels = commands.add_parser("wheels", help="fill a folder for `install --wheels`")
    wheels.add_argument("folder", type=Path, metavar="DIR")
    wheels.add_argument("--python-version", metavar="3.N", help="that of the workstations, if it is not this one's")
    for command in (install, wheels):
        optional = "with the libraries for this, too: demo (also for `run --embedded-broker`) or genesys-cloud"
        command.add_argument("--with", dest="extras", action="append", metavar="WHAT", help=optional)
    return parser


_AGAIN = "What was done so far stays; when that is mended, the same command goes on from there."


# --- steps -----------------------------------------------------------------------------------------------------------


class _Work:
    """Does one step after the other on the machine whose root directory is `root`; `dry` only says what it would."""

    def __init__(self, root: Path, *, dry: bool) -> None:
        self.root = root
        self.dry = dry
        self.manifest = _Manifest(root / _HOME / "manifest.json")
        self.changes = 0

    @property
    def is_live(self) -> bool:
        """Whether this is the machine itself, with its users and services, not a folder."""
        return self.root == Path("/")

    def step(self, what: str, is_done: Callable[[], bool], do: Callable[[], object]) -> None:
        """Do one thing unless it is done; the first that is not makes a whole installation an unfinished one."""
        done = is_done()
        if not done:
            self.changes += 1
            if not self.dry:
                if self.manifest.is_complete:
                    self.manifest.save()
                do()
        print(f"{'ok     ' if done else 'changed'}  {what}", flush=True)

    def put(self, path: Path, content: bytes) -> None:
        """Have a file of this content, which belongs to the installation."""
        place = self.root / path

        def do() -> None:
            self._begin(path)
            _write(place, content)

        self.step(str(place), lambda: _holds(place, content), do)

    def link(self, path: Path, target: Path) -> None:
        """Have a symbolic link, which belongs to the installation; switched in one step."""
        place = self.root / path

        def do() -> None:
            self._begin(path)
            with _beside(place) as new:
                new.symlink_to(target)

        self.step(f"{place} -> {target}", lambda: place.is_symlink() and place.readlink() == target, do)

    def remove(self, path: Path) -> None:
        """Have a file no more."""
        place = self.root / path
        self.step(f"{place} removed", lambda: not os.path.lexists(place), place.unlink)

    def make_folder_of(self, path: Path) -> None:
        """Have the folder that a file is in, and remember which were made for it."""
        missing = [str(folder) for folder in path.parents if not (self.root / folder).exists()]
        self.manifest.folders = sorted({*self.manifest.folders, *missing} - {str(_HOME)})
        self.manifest.save()
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)

    def _begin(self, path: Path) -> None:
        self.manifest.files = sorted({*self.manifest.files, str(path)})
        self.make_folder_of(path)


class _Manifest:
    """What an installation has put where, in a file that is up to date before anything is put."""

    def __init__(self, file: Path) -> None:
        self._file = file
        content = _read_manifest(file) if file.exists() else {}
        self.is_complete: bool = content.get("is_complete", False)
        self.files: list[str] = content.get("files", [])
        self.folders: list[str] = content.get("folders", [])  # those that were not there before
        self.users: list[str] = content.get("users", [])
        self.groups: list[str] = content.get("groups", [])
        self.config_digest: str = content.get("config_digest", "")  # of what was put there
        self.was_enabled: bool = content.get("was_enabled", False)
        self.extras: list[str] = content.get("extras", [])

    def save(self, *, is_complete: bool = False) -> None:
        self.is_complete = is_complete
        self._file.parent.mkdir(parents=True, exist_ok=True)
        content: dict[str, Any] = {name: value for name, value in vars(self).items() if name != "_file"}
        _write(self._file, json.dumps(content, indent=2).encode() + b"\n")


def _read_manifest(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_bytes()))
    except (ValueError, TypeError):
        raise SetUpError(
            f"{file} is damaged. Remove it, then install again; a later removal will not know that it made the user"
        ) from None


# --- install ---------------------------------------------------------------------------------------------------------


class _Installation:
    def __init__(self, work: _Work, tree: Path, wheels: Path | None, extras: list[str] | None) -> None:
        self._work = work
        self._tree = tree
        self._wheels = wheels
        self._extras = work.manifest.extras if extras is None else sorted(set(extras))  # an upgrade keeps them
        project = wheelhouse.wheel_of_tree(wheels, tree) if wheels else tree
        self._project = wheelhouse.with_extras(project, self._extras)
        self._name = f"{wheelhouse.version(tree)}-{_digest(_made_from(tree, wheels, self._extras))[:12]}"
        self._was_complete = work.manifest.is_complete

    def install(self) -> None:
        work, manifest = self._work, self._work.manifest
        self._refuse_what_cannot_work()
        environment = work.root / _HOME / "versions" / self._name
        work.step(f"environment {environment}", (environment / _STAMP).exists, lambda: self._make(environment))
        work.link(_HOME / "venv", Path("versions") / self._name)
        work.link(_LINK, work.root / _HOME / "venv/bin/mutebridge")
        files = _system_files(self._tree)
        for path, source in files.items():
            work.put(path, source.read_bytes())
        mine = {str(path) for path in (*files, _LINK, _HOME / "venv")}
        for gone in sorted(set(manifest.files) - mine):
            work.remove(Path(gone))
        manifest.files = sorted(mine)
        self._configure()
        if work.is_live:
            self._make_users()
            _reload_udev(work, needed=self._is_news)
            self._run_service()
        self._remove_earlier(environment)
        if self._is_news and not work.dry:
            manifest.extras = self._extras
            manifest.save(is_complete=True)
        done = "would be installed" if work.dry else "is installed"
        print(f"mutebridge {wheelhouse.version(self._tree)} {done}: {work.changes} changes")

    def _refuse_what_cannot_work(self) -> None:
        """Before anything is done: another program's files are not overwritten, and the service can run its Python."""
        link = self._work.root / _LINK
        ours = str(self._work.root / _HOME)
        if os.path.lexists(link) and not (link.is_symlink() and str(link.readlink()).startswith(ours)):
            raise SetUpError(f"{link} is there and is not of this installation; move it away, then start again")
        if self._work.is_live and _is_a_persons(Path(sys.base_prefix)):
            raise SetUpError(
                f"the Python in {sys.base_prefix} is a person's: the service may not read it, or that person could "
                "change what root runs; use /usr/bin/python3"
            )

    def _make(self, environment: Path) -> None:
        self._work.manifest.save()
        shutil.rmtree(environment, ignore_errors=True)
        environment.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._fill(environment)
        except BaseException:
            shutil.rmtree(environment, ignore_errors=True)  # it may be what has filled the disk
            raise
        (environment / _STAMP).touch()

    def _fill(self, environment: Path) -> None:
        bootstrap.create(environment, with_pip=False)
        python = [str(environment / "bin/python"), "-I"]
        offline = ["--no-index", "--find-links", str(self._wheels)] if self._wheels else []
        pip = bootstrap.pip(wheelhouse.pip(self._wheels) if self._wheels else None)
        # Without a cache, which would be left behind in root's home.
        install = [*pip, "install", "--no-cache-dir", *offline, self._project]
        status, output = bootstrap.run([*python, *install], PIP_USER="0")
        if status == 0:
            status, output = bootstrap.run([*python, environment / "bin/mutebridge", "--version"])
        if status != 0:
            raise SetUpError(f"the environment could not be made:\n{output}\n{self._remedy()}{_AGAIN}")

    def _remedy(self) -> str:
        if self._wheels:
            version = "{}.{}".format(*sys.version_info)
            return (
                f"If it says that no version of a package was found, {self._wheels} has no wheel of it for this "
                f"machine; on one with network, type:\n    python3 daemon wheels --python-version {version} DIR\n"
            )
        return (
            "If it says that it could not connect, or found no version at all, see to the connection (or proxy), or "
            "bring the wheels along:\n    python3 daemon wheels DIR, where there is network\n"
            "    sudo python3 daemon install --wheels DIR\n"
        )

    def _configure(self) -> None:
        """Put the commented example, which says what holds anyway, where there is no configuration."""
        place = self._work.root / _CONFIG
        content = (self._tree / "config/mutebridge.yaml").read_bytes()
        manifest = self._work.manifest

        def do() -> None:
            manifest.config_digest = hashlib.sha256(content).hexdigest()
            self._work.make_folder_of(_CONFIG)
            _write(place, content)

        self._work.step(str(place), lambda: os.path.lexists(place), do)

    def _make_users(self) -> None:
        for path, source in _system_files(self._tree).items():
            if source.suffix == ".sysusers":
                users, groups = _accounts(source.read_text())
                self._work.step(
                    f"user {', '.join(users)}",
                    lambda users=users, groups=groups: all(map(_has_user, users)) and all(map(_has_group, groups)),  # type: ignore[misc]
                    partial(self._run_sysusers, path, users, groups),
                )

    def _run_sysusers(self, path: Path, users: list[str], groups: list[str]) -> None:
        manifest = self._work.manifest
        manifest.users += [user for user in users if not _has_user(user)]
        manifest.groups += [group for group in groups if not _has_group(group)]
        manifest.save()
        _must_run("systemd-sysusers", str(self._work.root / path))

    def _run_service(self) -> None:
        """Enable it once only: an administrator who disables it later is right."""
        work, manifest = self._work, self._work.manifest
        enabled = _systemctl_says("is-enabled") == "enabled"
        left_off = manifest.was_enabled and not enabled
        if left_off:
            print(f"ok       {SERVICE} is disabled, and left so")
        else:
            work.step(
                f"{SERVICE} enabled", lambda: enabled, partial(_must_run, "systemctl", "enable", "--quiet", SERVICE)
            )
            manifest.was_enabled = True
        if _systemd_runs():
            if self._is_news and not work.dry:
                _must_run("systemctl", "daemon-reload")
            runs = _systemctl_says("is-active") == "active"
            if runs or not left_off:
                work.step(f"{SERVICE} running", lambda: runs and not self._is_news, _restart)

    @property
    def _is_news(self) -> bool:
        """Whether what runs may be another thing than what is installed now."""
        return not self._was_complete or self._work.changes > 0

    def _remove_earlier(self, environment: Path) -> None:
        for other in sorted(environment.parent.glob("*")):
            if other != environment:
                self._work.step(f"{other} removed", _never, partial(_remove_folder, other))


def _made_from(tree: Path, wheels: Path | None, extras: Sequence[str]) -> Iterator[bytes]:
    """Yield all that decides what is in an environment."""
    yield f"{sys.version_info[:2]} {sys.base_prefix} {extras}".encode()
    for file in [tree / "pyproject.toml", *wheelhouse.sources(tree)]:
        yield str(file.relative_to(tree)).encode()
        yield file.read_bytes()
    for wheel in sorted(wheels.glob("*.whl")) if wheels else []:
        yield wheel.name.encode()
        yield wheel.read_bytes()


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(b"%d " % len(part))
        digest.update(part)
    return digest.hexdigest()


def _is_a_persons(folder: Path) -> bool:
    """Whether a folder is in somebody's home, or another than root can put something else there."""
    real = folder.resolve()
    return str(real).startswith(("/home/", "/root/")) or any(part.stat().st_uid != 0 for part in (real, *real.parents))


def _system_files(tree: Path) -> dict[Path, Path]:
    """Return which files go where; a tree of another version may not have all of them."""
    return {place: tree / "systemd" / name for name, place in _PLACES.items() if (tree / "systemd" / name).exists()}


def _restart() -> None:
    bootstrap.run(["systemctl", "reset-failed", SERVICE])  # one that has failed too often is not started otherwise
    try:
        _must_run("systemctl", "restart", SERVICE)
    except SetUpError:
        _, told = bootstrap.run(["journalctl", "--unit", SERVICE, "--lines", "10", "--no-pager", "--output", "cat"])
        raise SetUpError(f"{SERVICE} does not start. Its last words:\n{told}\n{_AGAIN}") from None


# --- uninstall -------------------------------------------------------------------------------------------------------


def _uninstall(work: _Work, *, purge: bool) -> None:
    home, state = work.root / _HOME, work.root / _STATE
    known = {*work.manifest.files, *map(str, _PLACES.values())} - {str(_HOME / "venv")}
    files = [Path(path) for path in sorted(known) if os.path.lexists(work.root / path)]
    is_there = home.exists() or bool(files)
    if is_there and work.is_live:
        _stop_service(work)
    for path in files:
        work.remove(path)
    _remove_configuration(work, purge=purge)
    if state.is_dir():
        work.step(_removed(state), _never, partial(_remove_folder, state))
    if is_there and work.is_live:
        if _systemd_runs() and not work.dry:
            _must_run("systemctl", "daemon-reload")
            bootstrap.run(["systemctl", "reset-failed", SERVICE])
        _reload_udev(work, needed=work.changes > 0)
        _take_devices_back(work)
        _remove_accounts(work)
    if not work.dry:
        for folder in sorted(work.manifest.folders, key=len, reverse=True):
            with contextlib.suppress(OSError):  # it is gone, or another has put something there
                (work.root / folder).rmdir()
    # Last, since the manifest in it is what a second run goes by.
    work.step(f"{home} removed", lambda: not home.exists(), partial(_remove_home, home))
    print(f"mutebridge {'would be' if work.dry else 'is'} removed: {work.changes} changes")


def _stop_service(work: _Work) -> None:
    if _systemd_runs():
        work.step(
            f"{SERVICE} stopped",
            lambda: _systemctl_says("is-active") in ("inactive", "unknown"),
            lambda: _must_run("systemctl", "stop", SERVICE),
        )
    work.step(
        f"{SERVICE} disabled",
        lambda: _systemctl_says("is-enabled") not in ("enabled", "enabled-runtime"),
        lambda: _must_run("systemctl", "disable", "--quiet", SERVICE),
    )


def _take_devices_back(work: _Work) -> None:
    """Before the group goes: its number may be given to another one day, and device nodes would still name it."""
    python = work.root / _HOME / "venv/bin/python"
    if python.exists() and any(map(_has_group, work.manifest.groups)):
        revoke: list[str | Path] = [python, "-I", "-B", "-m", "mutebridge.device_access", "--revoke"]
        work.step("devices taken back from the group", _never, partial(_try_to_run, *revoke))


def _remove_accounts(work: _Work) -> None:
    for user in filter(_has_user, work.manifest.users):
        work.step(f"user {user} removed", _never, partial(_must_run, "userdel", user))
    for group in filter(_has_group, work.manifest.groups):  # a user's own group went with the user
        work.step(f"group {group} removed", _never, partial(_must_run, "groupdel", group))


def _remove_configuration(work: _Work, *, purge: bool) -> None:
    """Remove the example that was put there; what a person wrote only with `purge`."""
    config = work.root / _CONFIG
    untouched = config.is_file() and hashlib.sha256(config.read_bytes()).hexdigest() == work.manifest.config_digest
    if untouched:
        work.step(f"{config} removed", _never, config.unlink)
    for folder in (config.parent, work.root / _DROP_INS):
        if folder.is_dir() and any(not untouched or entry != config for entry in folder.iterdir()):
            kept = f"{folder} is kept, since not all in it was put there; --purge removes it"
            work.step(_removed(folder) if purge else kept, lambda: not purge, partial(_remove_folder, folder))


def _removed(folder: Path) -> str:
    return f"{folder} removed" + (f", a link; {folder.resolve()} is left as it is" if folder.is_symlink() else "")


def _remove_folder(folder: Path) -> None:
    """Remove it with all in it; of a link only the link, since others may use what it leads to."""
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder)
    else:
        folder.unlink()


def _remove_home(home: Path) -> None:
    """Also where it is a link: whatever is in it was put there by the installation."""
    shutil.rmtree(home.resolve())
    home.unlink(missing_ok=True)


# --- the machine -----------------------------------------------------------------------------------------------------


def _reload_udev(work: _Work, *, needed: bool) -> None:
    """Have udev know its rules; what is plugged in already is given to the service when that starts."""
    if Path("/run/udev/control").exists():
        work.step("udev's rules in force", lambda: not needed, partial(_must_run, "udevadm", "control", "--reload"))


def _systemd_runs() -> bool:
    """As sd_booted(3) says; else this is the image of a machine."""
    return Path("/run/systemd/system").exists()


def _systemctl_says(verb: str) -> str:
    return bootstrap.run(["systemctl", verb, SERVICE])[1].strip().rpartition("\n")[2]


def _accounts(sysusers: str) -> tuple[list[str], list[str]]:
    """Return the users and groups that a file of sysusers.d(5) makes."""
    lines = [line.split() for line in sysusers.splitlines() if line.strip() and not line.startswith("#")]
    users = {line[1] for line in lines if line[0].startswith("u")}
    return sorted(users), sorted(users | {line[1] for line in lines if line[0] == "g"})


def _has_user(name: str) -> bool:
    with contextlib.suppress(KeyError):
        return bool(pwd.getpwnam(name))
    return False


def _has_group(name: str) -> bool:
    with contextlib.suppress(KeyError):
        return bool(grp.getgrnam(name))
    return False


def _never() -> bool:
    return False


def _must_run(*command: str) -> None:
    status, output = bootstrap.run(command)
    if status != 0:
        raise SetUpError(f"{' '.join(command)} failed:\n{output}\n{_AGAIN}")


def _try_to_run(*command: str | Path) -> None:
    """For what a removal that has gone so far does without."""
    status, output = bootstrap.run(command)
    if status != 0:
        say(f"{' '.join(map(str, command))} failed, which is passed over:\n{output}")


# --- files -----------------------------------------------------------------------------------------------------------


def _holds(place: Path, content: bytes) -> bool:
    try:
        return place.stat().st_mode & 0o777 == 0o644 and place.read_bytes() == content
    except OSError:
        return False


def _write(place: Path, content: bytes) -> None:
    with _beside(place) as new:
        with new.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # a machine that loses power now has the old one or this
        new.chmod(0o644)


@contextlib.contextmanager
def _beside(place: Path) -> Iterator[Path]:
    """Give a name beside `place`, and put what is made there in its place in one step."""
    new = place.with_name(f".{place.name}.new")
    new.unlink(missing_ok=True)
    try:
        yield new
        new.replace(place)
    finally:
        new.unlink(missing_ok=True)
