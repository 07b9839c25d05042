"""Payment services, as a user of mqkit writes them; each module here with a `service` is one."""
