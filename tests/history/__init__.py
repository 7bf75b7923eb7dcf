"""What clients of a cluster did and were told, as a file, and the judges of it. Pure; knows no product."""
