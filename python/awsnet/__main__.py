"""`python -m awsnet` and `awsnet`: the command line, which is a program of its own in this package."""

import os
import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Run the command with this process's arguments; in this process's place, where the system can."""
    named = os.environ.get("AWSNET_COMMAND")
    command = Path(named) if named else Path(__file__).with_name("bin") / "awsnet"
    if not command.exists():
        print(f"awsnet: {command}: expected the command, found nothing; AWSNET_COMMAND can name it", file=sys.stderr)
        return 1
    arguments = [str(command), *sys.argv[1:]]
    if os.name == "posix":
        os.execv(command, arguments)
    return subprocess.run(arguments, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
