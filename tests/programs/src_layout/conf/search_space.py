DEPTHS = [1, 2, 3]
