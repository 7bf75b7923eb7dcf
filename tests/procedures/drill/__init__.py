"""The drill: a real cluster is loaded, backed up, destroyed and brought back, and each return is checked.

The check is against the drill's own record of what was acknowledged and when (record.py), never against
what the product says of itself. One file for each procedure of the runbook; the product's part in each
is played by its own commands and by curl, tar, rsync and cp, as an operator types them.

    RPO   from the last write acknowledged before the loss back to the last one that came back; the loss
          that point-in-time recovery goes back behind is the chosen instant
    RTO   from the first command of the restore until every restored node serves

Run by scripts/drill.
"""
