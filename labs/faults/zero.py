"""The receipt of a fault at zero intensity, which runs as a control and must change nothing."""

from labs.engine.model import Receipt

NOTHING = Receipt(True, "zero intensity: nothing was to be touched", {"zero_intensity": True})
