"""Labels of reports: each kind of cue, published cases, experts' codes, the simulator's
truth."""

import hashlib
import os
import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import radwb as rw
from radwb.curate import label_reports, why
from radwb.findings import FINDINGS
