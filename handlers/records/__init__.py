"""What the services keep: tables and statements, one module a service, without mqkit."""
