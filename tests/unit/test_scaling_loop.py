"""How often the scaling loop looks at the cluster, which costs a request to Kubernetes each time."""

from skjob.scaling.loop import SELDOM, Seldom


def test_what_does_not_change_is_looked_at_every_few_seconds() -> None:
    looks = []
    seldom = Seldom(lambda: looks.append(1) or len(looks))
    seen = [seldom(now, "same", often=False) for now in range(100, 100 + 3 * int(SELDOM))]
    assert seen == [1] * int(SELDOM) + [2] * int(SELDOM) + [3] * int(SELDOM)


def test_what_changes_is_looked_at_each_time() -> None:
    looks = []
    seldom = Seldom(lambda **how: looks.append(how))
    for now in range(10):
        seldom(now, now // 3, often=False)
    assert len(looks) == 10 // 3 + 1
    for now in range(10, 15):
        seldom(now, "same", often=True, alone=True)
    assert looks[4:] == [{"alone": True}] * 5
