"""Every port of the house, by the name of the variable that overrides it. A test compares it with docker-compose.yml.

Systems are at 18000 + 20 n, naive variants from 18700, simulators from 18800, workers from 19000, infrastructure on 17xxx.
"""

PORTS: dict[str, int] = {
    "CONSOLE_PORT": 17000,
    "LOCUST_PORT": 17089,
    "PROMETHEUS_PORT": 17090,
    "KAFKA_CONTROLLER_PORT": 17091,
    "KAFKA_PORT": 17092,
    "KAFKA_PAYMENTS_PORT": 17110,
    "KAFKA_NAIVE_PORT": 17111,
    "REDIS_PORT": 17379,
    "POSTGRES_PORT": 17432,
    "TOXIPROXY_PORT": 17474,
    "EDGE_PORT_PAYMENTS_POSTGRES": 17500,
    "EDGE_PORT_PAYMENTS_BANK": 17501,
    "EDGE_PORT_PAYMENTS_KAFKA": 17502,
    "EDGE_PORT_WEEK02_DAY2_NAIVE_POSTGRES": 17503,
    "EDGE_PORT_WEEK02_DAY2_NAIVE_BANK": 17504,
    "EDGE_PORT_WEEK02_DAY2_NAIVE_KAFKA": 17505,
    "PAYMENTS_PORT": 18000,
    "WEEK02_DAY2_NAIVE_PORT": 18700,
    "WEEK02_DAY2_YOURS_PORT": 18701,
    "SIM_BANK_PORT": 18800,
}

FIRST_WORKER_PORT = 19000
"""Natively, processes that publish no port get one from here up (`HTTP_PORT` of their environment is replaced)."""
