"""Options that several commands have."""


def add_operator(command) -> None:
    """``--operator FILE.py:NAME``, which `solve_command.load_operator` reads."""
    command.add_argument(
        "--operator",
        required=True,
        metavar="FILE.py:NAME",
        help="python file and the name of an Operator in it",
    )
