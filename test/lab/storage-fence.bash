#!/usr/bin/env bash
# The fence of the storage, for dvold's fence_command: cuts off a host, at the
# storage server, or lets it in again, and exits with 0 once that is so.
#
# usage: DVOL_ACTION=fence|unfence DVOL_HOST=HOST fence
set -euo pipefail
exec ssh -F /etc/lab/ssh_config storage-admin "$DVOL_ACTION $DVOL_HOST"
