"""What can go wrong, on purpose: each fault injects, gives a receipt, heals and verifies.

`kill`, `pause`, `restart` and `kill_at_failpoint` name roles; the functions of `network` name links with `edge("sut.bank")`;
`bank` holds the switches of the simulated bank. Each has a form of zero intensity that changes nothing.
"""

from labs.faults import bank, network
from labs.faults.failpoint import kill_at_failpoint
from labs.faults.network import edge
from labs.faults.process import kill, pause, restart

__all__ = ["bank", "edge", "kill", "kill_at_failpoint", "network", "pause", "restart"]
