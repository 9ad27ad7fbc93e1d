"""The command `completion`: a script for bash, zsh or fish, made from the parser.

The script is static: a key press runs no Python.  (argcomplete runs the program at every key press,
which imports torch, two seconds; shtab makes static scripts as here, but none for fish.)
"""

import argparse
from typing import NamedTuple

from tweedie_inverse.app.catalogue.instruments import INSTRUMENTS
from tweedie_inverse.app.parser import Parser

_EXAMPLE = """\
examples:
  tweedie-inverse completion bash > ~/.local/share/bash-completion/completions/tweedie-inverse
  tweedie-inverse completion zsh > ~/.zfunc/_tweedie-inverse      (a folder of $fpath)
  tweedie-inverse completion fish > ~/.config/fish/completions/tweedie-inverse.fish
"""
_PROGRAM = "tweedie-inverse"


class Word(NamedTuple):
    """An option: its names, whether a value follows, which ones it may be, and its help."""

    names: tuple[str, ...]
    has_value: bool
    choices: tuple[str, ...]
    help: str


def add(commands, parser: Parser) -> None:
    """Enter the command; `parser` is the one that the script is made from."""
    command = commands.add_parser(
        "completion", help="a script that completes commands in the shell", epilog=_EXAMPLE
    )
    command.add_argument("shell", choices=sorted(SCRIPTS))
    command.set_defaults(run=lambda options: print(SCRIPTS[options.shell](_words(parser)), end=""))


def _words(parser: Parser) -> dict[str, list[Word]]:
    """The options of every command."""
    (found,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return {name: [_word(a) for a in one._actions] for name, one in found.choices.items()}


def _word(action: argparse.Action) -> Word:
    choices = tuple(map(str, action.choices or ()))
    if "--operator" in action.option_strings:
        choices = tuple(INSTRUMENTS)
    if "--prior" in action.option_strings or action.dest == "prior":
        choices = _priors()
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    if metavar.startswith("{") and not choices:
        choices = tuple(metavar.strip("{}").split(","))
    text = " ".join((action.help or "").replace("%%", "%").split())
    return Word(tuple(action.option_strings), action.nargs != 0, choices, text.partition(";")[0])


def _priors() -> tuple[str, ...]:
    from tweedie_inverse.priors.zoo import list_priors

    return tuple(card.name for card in list_priors())


def _bash(words: dict[str, list[Word]]) -> str:
    cases, values = [], []
    for command, options in words.items():
        names = " ".join(name for word in options for name in word.names)
        places = " ".join(c for word in options if not word.names for c in word.choices)
        cases.append(f'    {command}) options="{names}"; places="{places}" ;;')
        for word in options:
            if word.names and word.choices:
                keys = "|".join(f"{command}:{name}" for name in word.names)
                values.append(f'    {keys}) choices="{" ".join(word.choices)}" ;;')
    return f"""\
# bash completion of {_PROGRAM}, made by `{_PROGRAM} completion bash`
_tweedie_inverse() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}"
  local command="${{COMP_WORDS[1]}}" options="" places="" choices=""
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "{" ".join(words)} --help --version" -- "$word"))
    return
  fi
  case "$command:$before" in
{chr(10).join(values)}
  esac
  case "$command" in
{chr(10).join(cases)}
  esac
  if [ -n "$choices" ]; then
    COMPREPLY=($(compgen -W "$choices" -- "$word"))
  elif [[ "$word" == -* ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$word"))
  elif [ -n "$places" ]; then
    COMPREPLY=($(compgen -W "$places" -- "$word"))
  fi
}}
complete -o default -F _tweedie_inverse {_PROGRAM}
"""


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "'\\''") + "'"


def _zsh(words: dict[str, list[Word]]) -> str:
    cases = []
    for command, options in words.items():
        lines = []
        for word in options:
            for name in word.names:
                help = word.help.translate(str.maketrans("[]:`", "()  "))
                value = f":value:({' '.join(word.choices)})" if word.choices else ":value:_files"
                lines.append(_quoted(f"*{name}[{help}]{value if word.has_value else ''}"))
            if not word.names:
                lines.append(_quoted(f"*:file:({' '.join(word.choices)})") if word.choices
                             else "'*:file:_files'")  # fmt: skip
        specs = " \\\n        ".join(dict.fromkeys(lines))
        cases.append(f"    {command})\n      _arguments \\\n        {specs} ;;")
    return f"""\
#compdef {_PROGRAM}
# zsh completion of {_PROGRAM}, made by `{_PROGRAM} completion zsh`
_tweedie_inverse() {{
  if (( CURRENT == 2 )); then
    compadd -- {" ".join(words)} --help --version
    return
  fi
  local command="$words[2]"
  shift words
  (( CURRENT-- ))
  case "$command" in
{chr(10).join(cases)}
  esac
}}
if [ "$funcstack[1]" = "_tweedie-inverse" ]; then
  _tweedie_inverse "$@"
else
  compdef _tweedie_inverse {_PROGRAM}
fi
"""


def _fish(words: dict[str, list[Word]]) -> str:
    first = "__fish_use_subcommand"
    lines = [
        f"# fish completion of {_PROGRAM}, made by `{_PROGRAM} completion fish`",
        f"complete -c {_PROGRAM} -n {first} -f -a {_quoted(' '.join(words))}",
        f"complete -c {_PROGRAM} -n {first} -l version -l help",
    ]
    for command, options in words.items():
        where = f"complete -c {_PROGRAM} -n '__fish_seen_subcommand_from {command}'"
        for word in options:
            for name in word.names:
                key = f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}"
                given = f" -x -a {_quoted(' '.join(word.choices))}" if word.choices else " -r"
                value = given if word.has_value else ""
                lines.append(f"{where} {key}{value} -d {_quoted(word.help)}")
            if not word.names and word.choices:
                lines.append(f"{where} -a {_quoted(' '.join(word.choices))}")
    return "\n".join(lines) + "\n"


SCRIPTS = {"bash": _bash, "fish": _fish, "zsh": _zsh}
