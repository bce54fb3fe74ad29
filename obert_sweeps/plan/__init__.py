"""From the cells of a request to the DAG of stages that makes them."""
