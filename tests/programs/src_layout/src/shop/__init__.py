from .steps import Doubled

__all__ = ["Doubled"]
