"""What results folders show: reports, comparisons, plots."""
