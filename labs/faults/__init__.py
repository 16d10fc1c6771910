"""What can go wrong, on purpose: each fault injects, gives a receipt, heals and verifies.

`kill`, `pause`, `restart` and `kill_at_failpoint` name roles; the functions of `network` name links with `edge("sut.bank")`;
`bank` holds the switches of the simulated bank, `receivers` those of webhook receivers, `target` those of what scheduled
jobs call, `clock` puts a node's wall clock wrong, `leader` finds out whom to hit. The modules `loss`, `full_disk`, `leave` and
`isolation` have a function of their name. Each has a form of zero intensity that changes nothing.
"""

from labs.faults import bank, clock, leader, network, receivers, target
from labs.faults.failpoint import kill_at_failpoint
from labs.faults.network import edge
from labs.faults.process import kill, pause, restart
from labs.faults.standstill import stop_at_failpoint
from labs.faults.together import together

__all__ = [
    "bank",
    "clock",
    "edge",
    "kill",
    "kill_at_failpoint",
    "leader",
    "network",
    "pause",
    "receivers",
    "restart",
    "stop_at_failpoint",
    "target",
    "together",
]
