"""The cases, a folder for each area. A module is found by being in one of them."""
