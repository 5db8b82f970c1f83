# Functions that are made at run time: by `exec` in a namespace, and in a module that is made by hand.
# Source: cloudpickle issues on dynamic modules
# Kind: D
# Slow
import sys
import types
from joblib import Parallel, delayed

namespace = {}
exec("OFFSET = 5\ndef shifted(x):\n    return x + OFFSET\n", namespace)
made = types.ModuleType("made_by_hand")
exec(
    "FACTOR = 3\ndef tripled(x):\n    return x * FACTOR\nclass Box:\n    def __init__(self, x):\n        self.x = x\n",
    made.__dict__,
)
sys.modules["made_by_hand"] = made
polynomials = [eval(f"lambda x: x ** {power}") for power in (1, 2, 3)]
print(Parallel()(delayed(namespace["shifted"])(x) for x in range(3)))
print(Parallel()(delayed(made.tripled)(x) for x in range(3)))
print([box.x for box in Parallel()(delayed(made.Box)(x) for x in range(3))])
print(Parallel()(delayed(power)(3) for power in polynomials))
