"""Shows a running system in a browser: its services, queues, dead letters and stores.

`mqkit console` starts it. `pip install 'mqkit[console]'` brings what it needs.
"""
