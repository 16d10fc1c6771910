"""One story through all systems: a checkout is paid, its webhook goes out, stock and popularity move in search, a job reconciles."""
