"""Breaking by hand on a running stack: `make chaos`. The faults and their receipts are those of `labs.faults`.

`scripts` says what there is, `arguments` what may be asked, `register` remembers on disk what is broken, `breaking` does
one script from inject to heal, `healing` restores what a command left behind.
"""
