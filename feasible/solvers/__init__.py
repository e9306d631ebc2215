"""Backends of the projection, one contract: `solve(problem, states, controls, *, elastic=False) -> Solution`.

A backend gets N rows of a `Problem` and a start, and returns a `Solution`. It is judged by residuals, never by its
own word, so an own one is any object with that method, given as `project(..., backend=...)`.
"""
