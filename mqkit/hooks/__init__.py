"""What may be handed in around the messages of a service, as Protocols."""
