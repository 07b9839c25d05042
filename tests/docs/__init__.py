"""Runs every block of the documentation: see CONTRIBUTING.md, 'How to write documentation'.

`pages` reads a page's blocks, and `player` hands each to who runs it: `python_page` (Python),
`terminals` (console) or `data_files` (TOML, JSON and the like), all in the folder of a `project`.
`printed` compares what a command printed with what the page shows.
"""
