"""A private Postfix: own configuration, queue and port on loopback; every mail for any address goes to one Maildir.

It is a real receiving server with strict ears: a bare newline is refused (where the version can), SMTPUTF8 and
8BITMIME are offered, and mail is stored as it came: no header is added or rewritten besides the trace headers. It asks
no DNS and has no SMTP client, so nothing can leave the machine.

Postfix must be started by root, which starts its parts under users of its own. `postfix start` is not used: `master`
in the foreground is a child whose end can be seen, and the settings below are everything that sets this instance apart
from the machine's own, which is neither read nor touched.
"""

import os
import pwd
import shutil
import smtplib
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.services.base import StartError, StoredMail
from tests.services.guard import GuardedDirectory
from tests.services.locate import Binaries
from tests.services.maildir import Maildir
from tests.services.private import HOST, PrivateServer
from tests.waiting import wait_until

START_DEADLINE_S = 30.0
MESSAGE_SIZE_LIMIT = 60 * 1024 * 1024

# The first patch level of each older release that knows `reject`; before that it is yes or no, if known at all.
REJECT_SINCE: dict[tuple[int, ...], int] = {(3, 5): 24, (3, 6): 14, (3, 7): 10, (3, 8): 5}

# name, type, private, unprivileged, chroot, wake-up, process limit, command: only what receiving and storing needs.
MASTER_CF = """\
{listen} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""


def main_cf(
    directory: Path, delivery_uid: int, delivery_gid: int, options: dict[str, str], interface: str = HOST
) -> str:
    """The text of `main.cf` for an instance that lives in `directory`; `options` are added and win."""
    settings = {
        "compatibility_level": "3.6",
        # This instance's own places.
        "queue_directory": f"{directory}/queue",
        "data_directory": f"{directory}/data",
        "maillog_file": f"{directory}/mail.log",
        "maillog_file_prefixes": f"{directory}",
        "multi_instance_directories": "",
        "multi_instance_enable": "no",
        # Loopback only, asking nobody.
        "inet_interfaces": interface,
        "inet_protocols": "ipv4",
        "myhostname": "postfix.test",
        "mynetworks": "127.0.0.0/8",
        "smtpd_peername_lookup": "no",
        "smtp_dns_support_level": "disabled",
        # Every domain is ours and every address is the one mailbox.
        "mydestination": "",
        "alias_maps": "",
        "alias_database": "",
        "local_recipient_maps": "",
        "smtpd_relay_restrictions": "permit_mynetworks, reject",
        "virtual_mailbox_domains": "static:ALL",
        "virtual_mailbox_base": f"{directory}/mail",
        "virtual_mailbox_maps": "static:inbox/",
        "virtual_uid_maps": f"static:{delivery_uid}",
        "virtual_gid_maps": f"static:{delivery_gid}",
        "virtual_minimum_uid": "1",
        "local_transport": "error:this server has no local mail",
        "default_transport": "error:no mail leaves this server",
        "relay_transport": "error:no mail leaves this server",
        # Large mails fit.
        "message_size_limit": str(MESSAGE_SIZE_LIMIT),
        "virtual_mailbox_limit": "0",
        # What is stored is what was sent.
        "smtputf8_enable": "yes",
        "local_header_rewrite_clients": "",
        # No pauses in tests, no reports to a postmaster.
        "in_flow_delay": "0",
        "notify_classes": "",
    } | options
    return "".join(f"{name} = {value}\n" for name, value in settings.items())


def strictness(binaries: Binaries) -> dict[str, str]:
    """Settings against bare newlines and early pipelining, as far as this version has them.

    A bare newline in a server's ear is how a second mail is smuggled in (CVE-2023-51764).
    """
    known = subprocess.run(
        [binaries.directory / "postconf", "-d"], check=True, capture_output=True, text=True
    ).stdout
    names = {line.split(" = ")[0] for line in known.splitlines()}
    strict = {}
    if "smtpd_forbid_bare_newline" in names:
        release, patch = binaries.parts[:2], (*binaries.parts, 0, 0)[2]
        rejects = release >= (3, 9) or patch >= REJECT_SINCE.get(release, patch + 1)
        strict["smtpd_forbid_bare_newline"] = "reject" if rejects else "yes"
        # By default the local networks are spared, and we are one.
        strict["smtpd_forbid_bare_newline_exclusions"] = ""
    if "smtpd_forbid_unauth_pipelining" in names:
        strict["smtpd_forbid_unauth_pipelining"] = "yes"
    return strict


class PrivatePostfix(PrivateServer):
    """A server of our own. Use it as a context manager, or call `start` and `stop`.

    Args:
        binaries: which installation.
        options: further lines of `main.cf` by name; they win over ours.
    """

    #: Postfix's own log, with a line for each connection, refusal and delivery since the last launch.
    LOG = "mail.log"

    def __init__(self, binaries: Binaries, *, options: dict[str, str] | None = None) -> None:
        super().__init__(binaries)
        self._options = strictness(binaries) | (options or {})
        self._maildir = Maildir(Path())

    def start(self) -> Self:
        """Lay out the instance and return once it greets.

        Raises:
            StartError: it does not start; the message holds the end of its log.
        """
        self._home = GuardedDirectory("postfix")
        try:
            self._lay_out()
            self._launch_on_free_port()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the server and delete its queue and mails; what it had not delivered yet is gone."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._home:
            self._home.remove()

    def maildir_messages(self) -> Sequence[StoredMail]:
        """What has arrived so far, oldest first: one entry per recipient, not per transaction."""
        return self._maildir.messages()

    def wait_for(self, count: int, deadline_s: float) -> Sequence[StoredMail]:
        """The mails once there are at least `count`; TimeoutError when the deadline passes."""
        return self._maildir.wait_for(count, deadline_s)

    def clear(self) -> None:
        """Delete what has arrived."""
        self._maildir.clear()

    def _lay_out(self) -> None:
        nobody = pwd.getpwnam("nobody")
        self.directory.chmod(0o755)
        for name in ("conf", "queue", "data", "mail"):
            (self.directory / name).mkdir(mode=0o755)
        shutil.chown(self.directory / "data", "postfix")
        os.chown(self.directory / "mail", nobody.pw_uid, nobody.pw_gid)
        self._maildir = Maildir(self.directory / "mail" / "inbox")
        text = main_cf(self.directory, nobody.pw_uid, nobody.pw_gid, self._options)
        (self.directory / "conf" / "main.cf").write_text(text)

    def _launch(self) -> None:
        conf = self.directory / "conf"
        (conf / "master.cf").write_text(MASTER_CF.format(listen=f"{HOST}:{self.port}"))
        self.log.unlink(missing_ok=True)
        # Makes the queue's folders with the owners and modes that this version wants.
        done = subprocess.run(
            [self._bin / "postfix", "-c", conf, "check"],
            check=False,
            capture_output=True,
            text=True,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode != 0:
            raise StartError(f"postfix check failed:\n{done.stderr}{self._printed()}")
        daemons = subprocess.run(
            [self._bin / "postconf", "-dh", "daemon_directory"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        # A session of its own: master signals its whole process group when it ends.
        process = subprocess.Popen(
            [f"{daemons}/master", "-c", conf, "-s"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd=self.directory,
        )
        self._process = process

        def ready() -> bool:
            if process.poll() is not None:
                raise StartError(f"Postfix ended with {process.returncode}:\n{self._printed()}")
            try:
                with smtplib.SMTP(HOST, self.port, timeout=5) as client:
                    return client.noop()[0] == 250
            except (OSError, smtplib.SMTPException):
                return False

        wait_until(ready, START_DEADLINE_S, lambda: f"Postfix does not greet:\n{self._printed()}")

    def _printed(self) -> str:
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""
