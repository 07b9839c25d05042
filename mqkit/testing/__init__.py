"""What a test of a service that uses mqkit needs: a real broker to run it against."""
