"""All services of all weeks at once, under mixed load and faults drawn from a seed: `python -m labs.soak --minutes 30`."""
