"""Events to signals: pure, the same live and from the lake. The clock is the events'."""
