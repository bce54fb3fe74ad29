"""What the plan and the store say of cells and stages: values, cost, effort, speed, curves."""
