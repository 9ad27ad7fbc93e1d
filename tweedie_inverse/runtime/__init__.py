"""What the computer offers: files written as a whole, locks, devices, parts that memory holds.

Beside `numerics` on the ground floor; nothing here knows an image, a prior or an operator.
"""
