"""Subjects, their files and pairs: read in many layouts, checked, simulated."""
