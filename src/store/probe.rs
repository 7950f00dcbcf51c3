//! Is a store fit for a volume? Tried before the first volume is made in it.
