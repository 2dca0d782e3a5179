"""MySQL: four servers, each a shard of its own."""

from __future__ import annotations

import getpass
import shutil
import subprocess
from pathlib import Path

from paytm_lab.core.errors import Unavailable
from paytm_lab.stack.connection import HOST, MYSQL_USER, Passwords
from paytm_lab.stack.layout import Layout, write
from paytm_lab.stack.probe import ask
from paytm_lab.stack.programs import Missing, Places, Program, at_least, said, version_in

COUNT = 4
PORT = 3306  # of the first; the others follow
VERSION_MIN = (8, 0, 30)
MIB = 1 << 20
INITIALISE_S_MAX = 120.0
SOCKET = "mysql.sock"
APPARMOR = "etc/apparmor.d/usr.sbin.mysqld"
# What every shard runs with, whoever starts it.
SETTINGS: dict[str, str] = {
    # A commit that was acknowledged is on disk, in the redo log and in the binary log.
    "innodb_flush_log_at_trx_commit": "1",
    "sync_binlog": "1",
    "innodb_use_fdatasync": "ON",
    # Few, large commits come from one writer: handing each to four log threads costs more CPU than
    # all the rest.
    "innodb_log_writer_threads": "OFF",
    "transaction_isolation": "READ-COMMITTED",
    "innodb_lock_wait_timeout": "5",
    # A batch of a thousand payments is about 1 MB of row changes: kept in memory until it commits.
    "binlog_row_image": "MINIMAL",
    "binlog_cache_size": str(4 * MIB),
    # Nobody replicates from here: the log is only as long as crash recovery wants it.
    "max_binlog_size": str(64 * MIB),
    "binlog_expire_logs_seconds": "3600",
    # The default of newer versions remembers ten million rows for replicas that do not exist.
    "binlog_transaction_dependency_history_size": "25000",
    # Memory: all eight servers of the stack together stay below 3.5 GiB.
    "innodb_buffer_pool_size": str(256 * MIB),
    "innodb_log_buffer_size": str(16 * MIB),
    "performance_schema": "OFF",
    "innodb_redo_log_capacity": str(256 * MIB),
    "max_connections": "250",
    "max_allowed_packet": str(64 * MIB),
    "character_set_server": "utf8mb4",
    "default_time_zone": "+00:00",
    # root is 'root'@'localhost' and nothing is looked up: root comes by the socket only.
    "skip_name_resolve": "ON",
    "mysqlx": "OFF",
}


def name(shard: int) -> str:
    return f"mysql-{shard}"


def find(where: Places) -> Program | Missing:
    seen = []
    for path in where.which(
        "mysqld",
        "usr/sbin/mysqld",
        "usr/libexec/mysqld",
        "usr/local/mysql/bin/mysqld",
        "opt/homebrew/opt/mysql*/bin/mysqld",
        "usr/local/opt/mysql*/bin/mysqld",
    ):
        words = said([path, "--no-defaults", "--version"])
        version = version_in(words, r"Ver (\d\S*)")
        if "MariaDB" in words:
            seen.append(f"{path} (MariaDB)")
        elif not at_least(version, VERSION_MIN):
            seen.append(f"{path} ({version or 'does not run'})")
        elif _confined(path, where.root):
            seen.append(f"{path} (AppArmor keeps it to /var/lib/mysql: /{APPARMOR})")
        else:
            return Program((str(path),), version)
    return _fetched(where) or Missing(
        "mysqld", "MySQL {}.{}.{} or newer".format(*VERSION_MIN), ", ".join(seen) or "no mysqld",
        (
            "Debian: not in stable; fetched from unstable, with its own libraries, by --fetch",
            "Ubuntu: apt-get install mysql-server-core-8.0",
            "macOS: brew install mysql",
            "conda: conda install -c conda-forge mysql-server",
        ),
    )  # fmt: skip


def _confined(path: Path, root: Path) -> bool:
    """Ubuntu's mysql-server may not touch any other folder."""
    profile = root / APPARMOR
    off = profile.parent / "disable" / profile.name
    the_one = (root / "usr/sbin/mysqld").resolve()
    return path.resolve() == the_one and profile.exists() and not off.exists()


def _fetched(where: Places) -> Program | None:
    """Unpacked, not installed: it runs under its own loader and never meets other libraries."""
    root = where.packages / "mysql/root"
    mysqld = root / "usr/sbin/mysqld"
    loaders = sorted(root.glob("usr/lib*/ld-linux-*.so.*"))
    libraries = sorted(root.glob("usr/lib/*-linux-gnu"))
    if not (mysqld.exists() and loaders and libraries):
        return None
    command = (str(loaders[0]), "--library-path", str(libraries[0]), str(mysqld))
    version = version_in(said([*command, "--no-defaults", "--version"]), r"Ver (\d\S*)")
    share = root / "usr/share/mysql"
    options = (
        f"--lc-messages-dir={share}",
        f"--character-sets-dir={share}/charsets",
        f"--plugin-dir={root}/usr/lib/mysql/plugin",
    )
    return Program(command, version, options) if version else None


def config_path(layout: Layout, shard: int) -> Path:
    return layout.conf / f"{name(shard)}.cnf"


def config(layout: Layout, shard: int, port: int) -> str:
    own = {
        "user": getpass.getuser(),  # mysqld refuses to run as root unless it is told to
        "datadir": f'"{layout.data / name(shard)}"',
        "socket": SOCKET,  # in the data folder: a full path may be too long for a socket
        "pid_file": "mysqld.pid",
        "log_bin": "bin",
        "server_id": str(shard + 1),
        "bind_address": HOST,
        "port": str(port),
        "secure_file_priv": "NULL",
    }
    lines = [f"{key} = {value}" for key, value in (own | SETTINGS).items()]
    return "\n".join(["[mysqld]", *lines]) + "\n"


def command(program: Program, layout: Layout, shard: int) -> list[str]:
    defaults = f"--defaults-file={config_path(layout, shard)}"  # must come first
    return [*program.command, defaults, *program.options]


def statements(known: Passwords) -> str:
    """What the first start runs, before anybody can connect."""
    return (
        f"ALTER USER 'root'@'localhost' IDENTIFIED BY '{known.mysql_root}';\n"
        f"CREATE USER '{MYSQL_USER}'@'%' IDENTIFIED BY '{known.mysql}';\n"
        f"GRANT ALL ON `paytm\\_%`.* TO '{MYSQL_USER}'@'%';\n"
    )


def initialise(program: Program, layout: Layout, known: Passwords) -> None:
    """Make the data folders that are missing. One is made and copied: making each costs 3 s of CPU.

    The first comes last: where it is, all are. Raises Unavailable with mysqld's last words.
    """
    folders = [layout.data / name(shard) for shard in range(COUNT)]
    if folders[0].exists():
        return
    new, sql = layout.data / "mysql.new", layout.conf / "mysql-init.sql"
    for folder in (new, *folders):
        shutil.rmtree(folder, ignore_errors=True)
    write(sql, statements(known))
    log = layout.logs / "mysql-init.log"
    done = _initialise(
        [
            *command(program, layout, 0), f"--datadir={new}", "--initialize-insecure",
            "--disable-log-bin", f"--init-file={sql}",
        ],
        log,
    )  # fmt: skip
    sql.unlink()
    if done != 0:
        shutil.rmtree(new, ignore_errors=True)
        words = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
        raise Unavailable(f"mysqld cannot make its data folder:\n{words}", place=str(log))
    (new / "auto.cnf").unlink(missing_ok=True)  # the server's UUID: each makes its own
    for folder in reversed(folders[1:]):
        shutil.copytree(new, folder, symlinks=True)
    new.rename(folders[0])


def _initialise(words: list[str], log: Path) -> int:
    with log.open("ab") as output:
        try:
            return subprocess.run(  # noqa: S603 - the program that was found
                words, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                timeout=INITIALISE_S_MAX, check=False,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            output.write(f"not done within {INITIALISE_S_MAX:g} s\n".encode())
            return -1


def forget_killed(layout: Layout, shard: int) -> None:
    """Remove the lock that a killed server left at its socket: the next one refuses to start while
    any process has the pid in it, a zombie included. Only while the shard's server does not run.
    """
    (layout.data / name(shard) / f"{SOCKET}.lock").unlink(missing_ok=True)


def ready(port: int) -> bool:
    """It greets with its handshake, protocol 10; an error packet would begin with 255."""
    greeting = ask(port, b"", 5)
    return bool(greeting) and greeting[4] == 10
