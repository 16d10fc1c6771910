"""All SQL of the service (but the schema, in migrations, and the lease, in leases.py), and the mapping of its errors."""
