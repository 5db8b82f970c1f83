RESULTS = {}
_order = []


def note(name, value):
    RESULTS[name] = value
    _order.append(name)


def order():
    return list(_order)
