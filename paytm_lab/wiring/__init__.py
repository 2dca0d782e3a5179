"""The one place that picks backends and builds the parts of a lab on them."""

from paytm_lab.wiring.faults import set_fault
from paytm_lab.wiring.stores import remove
from paytm_lab.wiring.system import System, build, stored_shards

__all__ = ["System", "build", "remove", "set_fault", "stored_shards"]
