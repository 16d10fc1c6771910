"""Dashboards as Python; `python -m infra.grafana` writes the JSON that Grafana and the console read."""
