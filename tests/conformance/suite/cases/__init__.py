"""The cases, by area. A module here is found by being here."""
