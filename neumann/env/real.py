"""Joins the real doors into the Env of a running node."""

from __future__ import annotations

from neumann.env.clock import RealClock, RealEntropy
from neumann.env.command import run_command
from neumann.env.disk import RealDisk
from neumann.env.doors import Env
from neumann.env.jobs import RealJobs
from neumann.env.lane import RealLane
from neumann.env.net import RealNet
from neumann.env.places import Places


def real_env() -> Env:
    """A fresh set of real doors; call it on the running event loop."""
    disk = RealDisk()
    return Env(
        clock=RealClock(),
        entropy=RealEntropy(),
        disk=disk,
        net=RealNet(),
        jobs=RealJobs(),
        lane=RealLane,
        run_command=run_command,
        places=Places(disk),
    )
