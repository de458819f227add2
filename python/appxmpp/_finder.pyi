from importlib.machinery import ModuleSpec

class FallbackFinder:
    @staticmethod
    def find_spec(
        fullname: str, path: object = None, target: object = None
    ) -> ModuleSpec | None: ...

class CompletingFinder:
    @classmethod
    def find_spec(
        cls, fullname: str, path: object = None, target: object = None
    ) -> ModuleSpec | None: ...

def install() -> None: ...
