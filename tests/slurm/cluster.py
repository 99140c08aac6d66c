"""A real SLURM on this machine alone, for tests: one controller, two nodes with false GPUs.

``python tests/slurm/cluster.py install|start|stop``. It needs root on Debian or Ubuntu, whose
packages it installs, and takes over /etc/slurm: it refuses where a cluster is configured already.
Everything listens on the loopback address.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path("/tmp/nir-test-slurm")
NODES = ("alpha", "beta")
CPUS, MEMORY_MB = 4, 16_000
PACKAGES = {
    "munged": "munge", "slurmctld": "slurmctld", "slurmd": "slurmd", "squeue": "slurm-client",
}  # fmt: skip
CONFIG = Path("/etc/slurm/slurm.conf")
# A device file each: a GPU without one drains its node.
GPUS = ("/dev/null", "/dev/zero")


def why_not() -> str | None:
    """Tell why no cluster can be started here; None: it can."""
    if os.geteuid() != 0:
        return "SLURM's daemons need root"
    if not shutil.which("slurmctld") and not shutil.which("apt-get"):
        return "SLURM is not installed, and there is no apt-get to install it"
    if CONFIG.exists() and not CONFIG.resolve().is_relative_to(ROOT):
        return f"{CONFIG} belongs to another cluster"
    return None


def install() -> None:
    """Install the packages that are missing; their daemons are not started."""
    lacking = [package for program, package in PACKAGES.items() if not shutil.which(program)]
    if not lacking:
        return
    policy = Path("/usr/sbin/policy-rc.d")  # keeps a package from starting its daemon
    made = not policy.exists()
    if made:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *lacking]
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(command, check=True, env=quiet, stdout=subprocess.DEVNULL)
    finally:
        if made:
            policy.unlink()


def start() -> None:
    """Install what is missing and start all daemons that do not run."""
    install()
    for name in ("run", "log", "state", "spool"):
        (ROOT / name).mkdir(parents=True, exist_ok=True)
    _write_configuration()
    if _call("munge", "-n").returncode:
        _start_munge()
    start_controller()
    for node in NODES:
        start_node(node)
    _wait(60, "the nodes", _nodes_are_up)


def stop() -> None:
    """End the daemons that were started here, and their jobs."""
    if _pid("slurmctld"):
        _call("scancel", "--user", "root")
        time.sleep(2)
    for node in NODES:
        end(f"slurmd-{node}")
    end("slurmctld")
    end("munged")
    for path in (CONFIG, CONFIG.with_name("gres.conf")):
        if path.is_symlink() and path.resolve().is_relative_to(ROOT):
            path.unlink()


def start_controller() -> None:
    """Start slurmctld, or leave it running."""
    if not _pid("slurmctld"):
        subprocess.run(["slurmctld"], check=True)
    _wait(30, "slurmctld", lambda: b"UP" in _call("scontrol", "ping").stdout)


def start_node(node: str) -> None:
    """Start the daemon of a node, or leave it running."""
    if not _pid(f"slurmd-{node}"):
        (ROOT / "spool" / node).mkdir(exist_ok=True)
        subprocess.run(["slurmd", "-N", node], check=True)


def end(daemon: str, how: signal.Signals = signal.SIGTERM) -> None:
    """End a daemon of ours: ``slurmctld``, ``slurmd-NODE`` or ``munged``."""
    pid = _pid(daemon)
    if pid:
        os.kill(pid, how)
        _wait(20, f"the end of {daemon}", lambda: not _alive(pid))
    (ROOT / "run" / f"{daemon}.pid").unlink(missing_ok=True)


def jobs(*states: str) -> list[str]:
    """Return the names of the jobs in the queue, as of PENDING or RUNNING."""
    words = ["squeue", "-h", "-o", "%i", "-t", ",".join(states)]
    return _call(*words).stdout.decode().split()


def node_of(job: str) -> str:
    """Return the node on which a job runs."""
    return _call("squeue", "-h", "-j", job, "-o", "%N").stdout.decode().strip()


def kill_steps() -> None:
    """Kill all processes of jobs, as a machine that is switched off does.

    SLURM's own first: they would tell the controller of the death of the others.
    """
    import psutil

    steps = [
        process
        for process in psutil.process_iter(["name"])  # asked here: others end meanwhile
        if process.info["name"].startswith("slurmstepd")
    ]
    for process in steps + [child for step in steps for child in step.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def hurry(job: str) -> None:
    """Start a job that waits because its node was lost: SLURM lets it wait two minutes."""
    _call("scontrol", "update", f"jobid={job}", "starttime=now")


def _start_munge() -> None:
    for name, mode in (("/run/munge", "755"), ("/etc/munge", "700"), ("/var/log/munge", "700"),
                       ("/var/lib/munge", "700")):  # fmt: skip
        command = ["install", "-d", "-o", "munge", "-g", "munge", "-m", mode, name]
        subprocess.run(command, check=True)
    key = Path("/etc/munge/munge.key")
    if not key.exists() or not key.stat().st_size:
        key.write_bytes(os.urandom(1024))
        shutil.chown(key, "munge", "munge")
        key.chmod(0o400)
    for stale in Path("/run/munge").glob("munge.socket*"):
        stale.unlink()
    subprocess.run(["runuser", "-u", "munge", "--", "munged"], check=True)
    _wait(15, "munge", lambda: not _call("munge", "-n").returncode)
    shutil.copy("/run/munge/munged.pid", ROOT / "run/munged.pid")


def _write_configuration() -> None:
    host = socket.gethostname().split(".")[0]
    nodes = [
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={6830 + number} CPUs={CPUS}"
        f" RealMemory={MEMORY_MB} Gres=gpu:{len(GPUS)} State=UNKNOWN"
        for number, node in enumerate(NODES)
    ]
    settings = {
        "ClusterName": "nir",
        "SlurmctldHost": f"{host}(127.0.0.1)",
        "SlurmctldPort": 6829,
        "AuthType": "auth/munge",
        "CredType": "cred/munge",
        "SlurmUser": "root",
        "SlurmdUser": "root",
        "CommunicationParameters": "NoInAddrAny,NoCtldInAddrAny",
        "SlurmctldPidFile": ROOT / "run/slurmctld.pid",
        "SlurmdPidFile": ROOT / "run/slurmd-%n.pid",
        "SlurmctldLogFile": ROOT / "log/slurmctld.log",
        "SlurmdLogFile": ROOT / "log/slurmd-%n.log",
        "StateSaveLocation": ROOT / "state",
        "SlurmdSpoolDir": ROOT / "spool/%n",
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "JobAcctGatherType": "jobacct_gather/linux",
        "JobAcctGatherFrequency": "task=1",
        "JobAcctGatherParams": "OverMemoryKill,UsePss",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_Core_Memory",
        "SchedulerParameters": "bf_interval=2,sched_interval=2,batch_sched_delay=0",
        "GresTypes": "gpu",
        "SlurmdParameters": "config_overrides",
        "AccountingStorageType": "accounting_storage/none",
        "MpiDefault": "none",
        "SwitchType": "switch/none",
        "ReturnToService": 2,
        "SlurmdTimeout": 15,
        "KillWait": 3,
        "MinJobAge": 900,
        "DefMemPerCPU": 500,
        "JobRequeue": 1,
    }
    every = ",".join(NODES)
    lines = [f"{key}={value}" for key, value in settings.items()] + nodes
    lines.append(f"PartitionName=cpu Nodes={every} Default=YES MaxTime=UNLIMITED State=UP")
    lines.append(f"PartitionName=gpu Nodes={every} MaxTime=UNLIMITED State=UP")
    (ROOT / "slurm.conf").write_text("\n".join(lines) + "\n")
    gres = [f"NodeName={node} Name=gpu File={device}" for node in NODES for device in GPUS]
    (ROOT / "gres.conf").write_text("\n".join(gres) + "\n")
    CONFIG.parent.mkdir(exist_ok=True)
    for name in ("slurm.conf", "gres.conf"):  # a job's steps find no other place
        link = CONFIG.with_name(name)
        link.unlink(missing_ok=True)
        link.symlink_to(ROOT / name)
    if not any(line.split()[:1] == ["127.0.0.1"] and host in line.split()
               for line in Path("/etc/hosts").read_text().splitlines()):  # fmt: skip
        with Path("/etc/hosts").open("a") as hosts:
            hosts.write(f"127.0.0.1 {host}\n")


def _nodes_are_up() -> bool:
    found = _call("sinfo", "-h", "-N", "-p", "cpu", "-o", "%t").stdout.decode().split()
    if len(found) == len(NODES) and all(state in ("idle", "mix", "alloc") for state in found):
        return True
    _call("scontrol", "update", f"nodename={','.join(NODES)}", "state=resume")
    return False


def _call(*words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(words, capture_output=True, check=False, timeout=60)


def _pid(daemon: str) -> int | None:
    path = ROOT / "run" / f"{daemon}.pid"
    text = path.read_text().strip() if path.exists() else ""
    return int(text) if text and _alive(int(text)) else None


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def _wait(seconds: float, what: str, ready: Callable[[], bool]) -> None:
    limit = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > limit:
            raise TimeoutError(f"waited {seconds} s for {what}; see {ROOT / 'log'}")
        time.sleep(0.5)


if __name__ == "__main__":
    reason = why_not()
    if reason:
        sys.exit(reason)
    {"install": install, "start": start, "stop": stop}[sys.argv[1]]()
