"""The operators' pages for tenants, keys and plans. Writes go through services, so that every
process hears of them.

Django finds this package alone; what it imports registers itself, the rooms' own pages too.
"""

from tenants import limits_admin as _limits  # noqa: F401
from tenants.admin import keys, plans, tenants  # noqa: F401
from tenants.notices import admin as _notices  # noqa: F401
