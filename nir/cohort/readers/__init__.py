"""Readers of cohorts, one file each with its ``READER``; other packages bring more."""
