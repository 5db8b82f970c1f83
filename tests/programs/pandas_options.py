# Tasks make tables as text, with the display options that the script has set.
# Source: Stack Overflow "pandas options not applied in multiprocessing / joblib"
# Kind: B
# Slow
import pandas as pd
from joblib import Parallel, delayed

frame = pd.DataFrame({"x": [1.23456, 2.34567, 3.45678, 4.5], "y": list("abcd")})


def as_text(frame, factor):
    return str(frame.assign(x=frame.x * factor))


pd.set_option("display.precision", 2)
print(*Parallel()(delayed(as_text)(frame, factor) for factor in (1, 10)), sep="\n")
with pd.option_context("display.max_rows", 2, "display.show_dimensions", False):
    print(*Parallel()(delayed(as_text)(frame, factor) for factor in (1, 10)), sep="\n")
