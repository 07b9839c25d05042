"""Draws graphs and plots as text: SVG for people and pages, Mermaid for what renders it itself."""
