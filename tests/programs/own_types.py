# Enumerations, data classes, named tuples and errors of the script's go out as arguments and come back as results.
# Source: cloudpickle#256 (enum members compare unequal after a round trip), joblib#1167
# Kind: D
# Slow
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple
from joblib import Parallel, delayed


class Colour(Enum):
    RED = 1
    BLUE = 2


@dataclass(frozen=True)
class Point:
    x: int
    colour: Colour = Colour.RED


class Result(NamedTuple):
    point: Point
    total: int


class Refused(Exception):
    def __init__(self, point):
        super().__init__(f"{point} is refused")
        self.point = point


def move(point, by):
    if by > 2:
        raise Refused(point)
    moved = replace(point, x=point.x + by, colour=Colour.BLUE if by else point.colour)
    return Result(moved, moved.x + by)


for n_jobs in (None, 2):
    results = Parallel(n_jobs=n_jobs)(delayed(move)(Point(x), by) for x in (1, 2) for by in (0, 1))
    print(results)
    print({type(each) is Result and type(each.point) is Point for each in results})
    print([each.point.colour is Colour.BLUE for each in results], Point(1) in {each.point for each in results})
    try:
        Parallel(n_jobs=n_jobs)(delayed(move)(Point(7), by) for by in range(5))
    except Refused as error:
        print(error, error.point == Point(7))
