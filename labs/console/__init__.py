"""The lab's web page: what runs, charts, labs with live progress, breaking by hand, traces, alerts, the course."""
