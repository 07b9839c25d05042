"""What AMQP 0-9-1 and RabbitMQ promise, as one suite that any broker and client can be held to.

    python -m tests.conformance.suite --broker 4.3 --table

A case is one sentence (its docstring) and an async function that takes an `Env`. What a case
claims was seen on RabbitMQ 4.3 first; where another version differs, `features.LACKS` says so.
"""
