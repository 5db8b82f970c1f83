# A log with a handler of the script's that uses `extra`, levels of two loggers, and an exception with its text.
# Source: joblib#1017, Stack Overflow "logging with joblib: records are lost"
# Kind: A
# Slow
import logging
import sys
from joblib import Parallel, delayed

log = logging.getLogger("work")
quiet = logging.getLogger("work.quiet")
handler = logging.StreamHandler(sys.stdout)
handler.setFormatter(logging.Formatter("%(name)s %(levelname)s [%(item)s] %(message)s"))
log.addHandler(handler)
log.setLevel(logging.DEBUG)
quiet.setLevel(logging.ERROR)


def work(number):
    log.debug("began", extra={"item": number})
    quiet.warning("never shown", extra={"item": number})
    try:
        return 10 / (number - 2)
    except ZeroDivisionError as error:
        log.error("failed: %s", error, extra={"item": number})
        quiet.error("failed: %r", error, extra={"item": "quiet"})
        return None


print(Parallel()(delayed(work)(number) for number in range(5)))
