"""Tools that NIR is compared with, as engines that the benchmarks bring, a file each.

None is a dependency of the product. What each adapter takes for granted about the tool's frames is
checked by tests/test_benchmarks.py.
"""

from benchmarks.rivals.convexadam import ConvexAdam
from benchmarks.rivals.dipy import Dipy
from benchmarks.rivals.fireants import Fireants
from benchmarks.rivals.greedy import Greedy
from nir.engines.base import ENGINES

for name, card in {
    "convexadam": ConvexAdam,
    "dipy": Dipy,
    "fireants": Fireants,
    "greedy": Greedy,
}.items():
    ENGINES.add(name, card)
