# Written by `fprefix setup`. The sandbox shows it where Portage has its chpathtool.py, which gives a
# binary package another EPREFIX: IMAGE OLD NEW.
import os
import sys

os.execv("{{ own_program }}", ["fprefix", "hook", "relocate", *sys.argv[1:]])
