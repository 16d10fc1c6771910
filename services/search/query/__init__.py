"""From what somebody typed to what the engine is asked: pure."""
