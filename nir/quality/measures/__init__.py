"""What is measured on a registration: a file each."""
