"""``python -m bethink``."""

from bethink.cli import main

if __name__ == "__main__":
    main()
