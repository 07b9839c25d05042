"""The payment services that run on mqkit."""
