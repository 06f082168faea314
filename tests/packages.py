"""Packages that look installed: what an installer writes beside their code."""


def install(folder, name, version):
    """Let a package be found by whoever has `folder` on its path."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
