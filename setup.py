"""What pyproject.toml cannot say: every room is a package, and the clone's top is one of them."""

from setuptools import find_packages, setup

PACKAGES = find_packages(include=["nir", "nir.*", "snakemake_logger_plugin_nir"])

setup(packages=[*PACKAGES, "nir.share"])
