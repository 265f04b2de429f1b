"""Looking for secrets where they must not be."""

from pathlib import Path


def leaks(folders, canaries):
    """Return the files below folders that hold a secret, by their names or contents."""
    found = []
    for path in (path for folder in folders for path in Path(folder).rglob("*")):
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        held = [name for name, secret in canaries.items() if secret.encode() in content]
        if held or any(secret in path.name for secret in canaries.values()):
            found.append((str(path), held))
    return found
