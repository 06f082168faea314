"""Which scene is on in a market, and when the next one begins: those of `classic.py`, or those of `scene.py`."""

from spymaster.simulation.book import Book
from spymaster.simulation.classic import ClassicBook, ClassicPlan, ClassicScene
from spymaster.simulation.plant import CLASSIC, Plan, Scenario
from spymaster.simulation.scene import Scene

AnyScene = Scene | ClassicScene


class Stage:
    """One scene at a time of what is planted in a market that begins at `start`."""

    def __init__(self, seed: int, start: int, plant: tuple[str, ...], strength: float) -> None:
        kinds = tuple(kind for kind in plant if kind != CLASSIC)
        self._plan = (ClassicPlan if CLASSIC in plant else Plan)(seed, start, kinds)
        self._strength = strength
        self._scene: AnyScene | None = None

    def next(self, now: int) -> Scenario | None:
        """Return what is on at `now`, or comes next; `now` never goes back."""
        return self._plan.at(now)

    def ended(self, now: int) -> AnyScene | None:
        """Return the scene that is over at `now`, once."""
        scene = self._scene
        if scene is None or now < scene.scenario.end_ns:
            return None
        self._scene = None
        return scene

    def scene(self, now: int, book: Book, contract: str) -> AnyScene | None:
        """Return the scene that is on at `now`, which may begin then, in the front month's book."""
        if self._scene is None:
            scenario = self._plan.at(now)
            if scenario is not None and scenario.begin_ns == now:
                if isinstance(book, ClassicBook):
                    self._scene = ClassicScene(scenario, book, contract)
                else:
                    self._scene = Scene(scenario, book, contract, self._strength)
        return self._scene
