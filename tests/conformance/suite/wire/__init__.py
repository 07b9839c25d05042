"""The client libraries that the cases are run over: what each brings, and how it is called."""
