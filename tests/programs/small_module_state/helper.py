COUNT = 0
NOTES = []


def work(number):
    global COUNT
    COUNT += 1
    NOTES.append(number)
    return number
