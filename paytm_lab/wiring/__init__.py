"""The one place that picks backends and builds the parts of a lab on them."""

from paytm_lab.wiring.faults import set_fault
from paytm_lab.wiring.fraud_models import deploy_model, promote_model, withdraw_model
from paytm_lab.wiring.stores import remove
from paytm_lab.wiring.system import System, build, stored_shards

__all__ = [
    "System",
    "build",
    "deploy_model",
    "promote_model",
    "remove",
    "set_fault",
    "stored_shards",
    "withdraw_model",
]
