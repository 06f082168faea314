"""Signals and health -> browser, metrics. Reads what others hold; nothing waits for it.

    judge, bus, gauges -> documents -> frames, encoded once -> a bounded queue per client -> page
    log and lake -> history, in threads with a bound of time and rows

Whoever reads too slowly gets the newest frame instead of those that it missed. A defect here is a problem in the
recorder's health, and never its end.
"""
