"""A Django project that publishes the orders that it has stored."""
