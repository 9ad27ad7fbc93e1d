"""The tests of the package; whoever imports them, also a process that a test starts, is salted."""

from tests import seeds

seeds.use()
