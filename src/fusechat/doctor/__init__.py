"""The doctor: what is wrong, or only seems right, along the whole chain of a recipe.

`examine` looks at every model of a recipe (sources, reward models, target, evaluation) and gives
all findings at once. Each check is a small pure function on a tokenizer, a configuration or the
recipe's settings; what each finds, and how it was met in the wild, is in docs/doctor.md.
"""

from fusechat.doctor.chain import examine as examine
from fusechat.doctor.findings import Examination as Examination
from fusechat.doctor.findings import Finding as Finding
