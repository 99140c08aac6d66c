"""Figures of pairs and of cohorts."""
