"""Tools for tests of services that use mqkit; they need `pip install mqkit[testing]`.

- `mqkit.testing.plugin`: pytest fixtures for all of it, which are there without being asked for
- `mqkit.testing.harness`: runs a service and tells what became of each message
- `mqkit.testing.proxy`: a TCP proxy in front of a broker that fails as networks do
- `mqkit.testing.brokers`: the embedded broker, whose time a test can advance, and a real RabbitMQ,
  found and started
"""
