//! The figures are in `figures/`: run them with `make bench`.
